//! Some parts of a product, each for itself.

use std::ops::Range;

use rayon::prelude::*;

use crate::single::check;
use crate::{Onto, Operand, Precision, bf16, multiply_in};

/// Parts of a product in bfloat16 begin at multiples of this, in rows and in columns.
pub const PART_GRID: usize = 48;

/// Some rows and columns of a product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its rows.
    pub rows: Range<usize>,
    /// Its columns.
    pub columns: Range<usize>,
}

impl Part {
    /// Values in it.
    pub fn values(&self) -> usize {
        self.rows.len() * self.columns.len()
    }
}

/// Computes parts of A B on all threads and hands each to `take`, row-major, with what belongs to it. The same bits whatever the number of
/// threads. In bfloat16 the operands are packed whole, in as much memory as half of both, or of one where B is Aᵀ.
///
/// # Panics
/// If the inner dimensions differ, a part lies outside of the product or, in bfloat16, off [`PART_GRID`], or the processor lacks the
/// precision.
pub fn parts_of_product<T: Send>(
    precision: Precision,
    a: Operand<'_>,
    b: Operand<'_>,
    parts: Vec<(Part, T)>,
    take: impl Fn(T, &[f32]) + Sync,
) {
    check(precision, a, &[b]);
    let inside = |(Part { rows, columns }, _): &(Part, T)| rows.end <= a.rows && columns.end <= b.columns;
    assert!(parts.iter().all(inside), "parts of a product");
    if precision == Precision::Bf16 && a.columns > 0 {
        // SAFETY: the processor has the instructions.
        return unsafe { bf16::parts_of_product(a, b, parts, take) };
    }
    parts.into_par_iter().with_max_len(1).for_each_init(Vec::new, |out, (part, own)| {
        let Part { rows, columns } = part.clone();
        out.resize(part.values(), 0.0);
        multiply_in(precision, out, columns.len(), Onto::Zero, 1.0, a.rows(rows), b.columns(columns));
        take(own, out);
    });
}
