//! A product on all threads.

use rayon::prelude::*;

use crate::memory::{Shared, uninitialized};
use crate::single::check;
use crate::{Onto, Operand, Precision, bf16, multiply_at};

/// Rows and columns of a task's share of the result. Every task packs its operands anew, so it must not be small.
const TILE: [usize; 2] = [512, 256];

/// A B, row-major, `[rows of A, columns of B]`. The same bits whatever the number of threads.
///
/// # Panics
/// If the inner dimensions differ, or the processor lacks the precision.
pub fn product(precision: Precision, a: Operand<'_>, b: Operand<'_>) -> Vec<f32> {
    // SAFETY: without reading it, the product below writes every value.
    let mut out = unsafe { uninitialized(a.rows * b.columns) };
    product_into(precision, &mut out, Onto::Zero, a, b);
    out
}

/// As [`product`], into `out`, or added to what it holds.
///
/// # Panics
/// As [`product`], and if there is not room for exactly the result.
pub fn product_into(precision: Precision, out: &mut [f32], onto: Onto, a: Operand<'_>, b: Operand<'_>) {
    assert_eq!(out.len(), a.rows * b.columns, "room for a product");
    products_into(precision, out, b.columns, onto, a, &[b]);
}

/// The products with several matrices, side by side, in rows that begin `row_stride` apart.
///
/// # Panics
/// As [`product`], and if the result does not lie inside `out`.
pub fn products_into(
    precision: Precision,
    out: &mut [f32],
    row_stride: usize,
    onto: Onto,
    a: Operand<'_>,
    right: &[Operand<'_>],
) {
    let (m, n) = (a.rows, right.iter().map(|b| b.columns).sum::<usize>());
    if m == 0 || n == 0 {
        return;
    }
    assert!(n <= row_stride || m == 1, "rows of {n} values, {row_stride} apart");
    assert!((m - 1) * row_stride + n <= out.len(), "room for products");
    check(precision, a, right);
    if precision == Precision::Bf16 && a.columns > 0 {
        let target = bf16::Target { out: out.as_mut_ptr(), row_stride, onto, factor: 1.0 };
        // SAFETY: the processor has the instructions, and the result lies inside `out`, which is borrowed alone.
        return unsafe { bf16::product_at(target, a, right) };
    }
    let mut column = 0;
    for &b in right {
        tiled(precision, Shared(out.as_mut_ptr()), (row_stride, column), onto, a, b);
        column += b.columns;
    }
}

/// One product, at a column of rows that begin `row_stride` apart and lie inside of what `out` points to.
fn tiled(
    precision: Precision,
    out: Shared,
    (row_stride, column): (usize, usize),
    onto: Onto,
    a: Operand<'_>,
    b: Operand<'_>,
) {
    let (m, n) = (a.rows, b.columns);
    let (down, across) = (m.div_ceil(TILE[0]), n.div_ceil(TILE[1]));
    (0..down * across).into_par_iter().with_max_len(1).for_each(|tile| {
        let (i, j) = (tile / across * TILE[0], tile % across * TILE[1]);
        let (a, b) = (a.rows(i..m.min(i + TILE[0])), b.columns(j..n.min(j + TILE[1])));
        // SAFETY: tiles lie inside the result and are disjoint.
        unsafe {
            let out = out.get().add(i * row_stride + column + j);
            multiply_at(precision, out, row_stride, onto, 1.0, a, &[b]);
        }
    });
}
