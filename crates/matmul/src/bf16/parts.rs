//! Parts of a product, whose operands are packed once for all of them.

use rayon::prelude::*;

use super::Target;
use super::kernel::{COLUMNS, ROWS};
use super::panels::Operands;
use crate::parts::{PART_GRID, Part};
use crate::{Onto, Operand};

const _: () = assert!(PART_GRID.is_multiple_of(ROWS) && PART_GRID.is_multiple_of(COLUMNS));

/// As [`crate::parts_of_product`], with operands and parts that were checked, and an inner dimension that is not 0.
///
/// # Safety
/// The processor has the instructions.
pub unsafe fn parts_of_product<T: Send>(
    a: Operand<'_>,
    b: Operand<'_>,
    parts: Vec<(Part, T)>,
    take: impl Fn(T, &[f32]) + Sync,
) {
    // SAFETY: by the caller.
    let operands = unsafe { Operands::pack((!b.transposed().is(a)).then_some(a), &[b]) };
    parts.into_par_iter().with_max_len(1).for_each_init(Vec::new, |out, (part, own)| {
        let Part { rows, columns } = part.clone();
        assert!(
            [&rows, &columns].iter().all(|lanes| lanes.start.is_multiple_of(PART_GRID)),
            "a part off the grid"
        );
        out.resize(part.values(), 0.0);
        let (panels, width) = (columns.start / COLUMNS..columns.end.div_ceil(COLUMNS), columns.len());
        let target = Target { out: out.as_mut_ptr(), row_stride: width, onto: Onto::Zero, factor: 1.0 };
        // SAFETY: the processor has the instructions, and there is room for the part.
        unsafe { operands.multiply(rows, panels, width, target) };
        take(own, &out[..part.values()]);
    });
}
