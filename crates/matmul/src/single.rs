//! A product on the calling thread.

use crate::bf16;
use crate::{Operand, Precision};

/// What a product is added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Onto {
    /// Nothing: what was there is overwritten.
    Zero,
    /// What is there.
    Itself,
}

/// out = \[out\] + factor · A B in f32 on the calling thread; `out` is row-major with rows `row_stride` apart. An empty sum is 0.
///
/// # Panics
/// If the inner dimensions differ, or the result does not lie inside its slice.
pub fn multiply(out: &mut [f32], row_stride: usize, onto: Onto, factor: f32, a: Operand<'_>, b: Operand<'_>) {
    multiply_in(Precision::F32, out, row_stride, onto, factor, a, b);
}

/// As [`multiply`], in a precision.
///
/// # Panics
/// As [`multiply`], and if the processor lacks the precision.
pub fn multiply_in(
    precision: Precision,
    out: &mut [f32],
    row_stride: usize,
    onto: Onto,
    factor: f32,
    a: Operand<'_>,
    b: Operand<'_>,
) {
    let (m, n) = (a.rows, b.columns);
    if m == 0 || n == 0 {
        return;
    }
    assert!(n <= row_stride || m == 1, "rows of {n} values, {row_stride} apart");
    assert!((m - 1) * row_stride + n <= out.len(), "room for a product");
    // SAFETY: the result lies inside `out`, which is borrowed alone.
    unsafe { multiply_at(precision, out.as_mut_ptr(), row_stride, onto, factor, a, &[b]) };
}

/// As [`multiply_in`], with the result at a pointer; the products with several matrices stand side by side.
///
/// # Safety
/// The rows of the result at `out`, as long as all columns of `right` together and `row_stride` apart, are valid for writing (and
/// reading, if it is added to them), and nobody else uses them.
///
/// # Panics
/// If the inner dimensions differ, or the processor lacks the precision.
pub unsafe fn multiply_at(
    precision: Precision,
    out: *mut f32,
    row_stride: usize,
    onto: Onto,
    factor: f32,
    a: Operand<'_>,
    right: &[Operand<'_>],
) {
    check(precision, a, right);
    if precision == Precision::Bf16 && a.columns > 0 {
        // SAFETY: the processor has them, the rest is the caller's.
        return unsafe { bf16::multiply_at(bf16::Target { out, row_stride, onto, factor }, a, right) };
    }
    let mut out = out;
    for &b in right {
        // SAFETY: by the assertions and the caller.
        unsafe {
            multiply_f32(out, row_stride, onto, factor, a, b);
            out = out.add(b.columns);
        }
    }
}

/// # Panics
/// If operands do not go together, or the processor lacks the precision.
pub(crate) fn check(precision: Precision, a: Operand<'_>, right: &[Operand<'_>]) {
    // Whatever made an operand, its values lie inside its slice.
    let inside = |operand: &Operand<'_>| operand.end() <= operand.values.len();
    assert!(inside(&a) && right.iter().all(inside), "operands of a product");
    assert!(right.iter().all(|b| b.rows == a.columns), "inner dimensions of a product");
    assert!(precision.is_native(), "this processor has no products in {precision}");
}

/// # Safety
/// As [`multiply_at`], with operands that were checked.
unsafe fn multiply_f32(
    out: *mut f32,
    row_stride: usize,
    onto: Onto,
    factor: f32,
    a: Operand<'_>,
    b: Operand<'_>,
) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    if k == 0 {
        if onto == Onto::Zero {
            for row in 0..m {
                // SAFETY: by the caller.
                unsafe { std::slice::from_raw_parts_mut(out.add(row * row_stride), n) }.fill(0.0);
            }
        }
        return;
    }
    // SAFETY: every element addressed by these dimensions and strides lies inside its slice; the caller answers for `out`.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out,
            1,
            row_stride as isize,
            onto == Onto::Itself,
            a.values.as_ptr(),
            a.strides[1] as isize,
            a.strides[0] as isize,
            b.values.as_ptr(),
            b.strides[1] as isize,
            b.strides[0] as isize,
            if onto == Onto::Itself { 1.0 } else { 0.0 },
            factor,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
