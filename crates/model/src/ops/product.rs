//! Matrix products whose operands are both new in every step: those of training.

use gemm::Parallelism;
use rayon::prelude::*;

use super::{Shared, uninitialized};

/// Rows and columns of a task's share of the result. Every task packs its operands anew, so it must not be small.
const TILE: [usize; 2] = [512, 256];

/// A matrix that lies row by row in a slice, or its transpose.
#[derive(Clone, Copy)]
pub struct Operand<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    strides: [usize; 2],
}

impl<'a> Operand<'a> {
    /// `[rows, columns]`, row-major.
    ///
    /// # Panics
    /// If there are not as many values.
    pub fn new(values: &'a [f32], [rows, columns]: [usize; 2]) -> Self {
        assert_eq!(values.len(), rows * columns, "values of a matrix [{rows}, {columns}]");
        Self { values, rows, columns, strides: [columns, 1] }
    }

    /// Some of the columns.
    ///
    /// # Panics
    /// If there are not as many.
    pub fn columns(self, columns: std::ops::Range<usize>) -> Self {
        assert!(columns.start <= columns.end && columns.end <= self.columns, "columns of a matrix");
        let first = (columns.start * self.strides[1]).min(self.values.len());
        Self { values: &self.values[first..], columns: columns.len(), ..self }
    }

    /// Rows as columns.
    pub fn transposed(self) -> Self {
        let [row, column] = self.strides;
        Self { rows: self.columns, columns: self.rows, strides: [column, row], ..self }
    }
}

/// A B, row-major, `[rows of A, columns of B]`. The same bits whatever the number of threads.
///
/// # Panics
/// If the inner dimensions differ.
pub fn product(a: Operand<'_>, b: Operand<'_>) -> Vec<f32> {
    // SAFETY: without reading it, the product below writes every value.
    let mut out = unsafe { uninitialized(a.rows * b.columns) };
    product_into(&mut out, a, b, false);
    out
}

/// As [`product`], into `out`, or added to what it holds.
///
/// # Panics
/// If the dimensions do not go together.
pub fn product_into(out: &mut [f32], a: Operand<'_>, b: Operand<'_>, accumulate: bool) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    assert_eq!(k, b.rows, "inner dimensions of a product");
    assert_eq!(out.len(), m * n, "room for a product");
    if k == 0 && !accumulate {
        out.fill(0.0);
    }
    let (down, across) = (m.div_ceil(TILE[0]), n.div_ceil(TILE[1]));
    let target = Shared(out.as_mut_ptr());
    (0..down * across).into_par_iter().with_max_len(1).for_each(|tile| {
        let (i, j) = (tile / across * TILE[0], tile % across * TILE[1]);
        let (rows, columns) = (TILE[0].min(m - i), TILE[1].min(n - j));
        // SAFETY: the operands hold as many values as their dimensions say, and tiles of `out` are disjoint.
        unsafe {
            gemm::gemm(
                rows,
                columns,
                k,
                target.get().add(i * n + j),
                1,
                n as isize,
                accumulate,
                a.values.as_ptr().add(i * a.strides[0]),
                a.strides[1] as isize,
                a.strides[0] as isize,
                b.values.as_ptr().add(j * b.strides[1]),
                b.strides[1] as isize,
                b.strides[0] as isize,
                1.0,
                1.0,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
    });
}
