//! The Cholesky factor of a large matrix, the same at any number of threads.
//!
//! Right-looking and blocked (Golub and Van Loan, "Matrix Computations", 4th edition, algorithm 4.2.4): almost all work is in
//! the products that update what is behind a block, and each of those is computed by one thread.

use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use slmc_matmul::{Onto, Operand, multiply};

/// Columns factored at a time.
const BLOCK: usize = 128;

/// Rows behind a block that one task updates.
const TASK_ROWS: usize = 128;

/// Rows behind a block that are solved for side by side.
const LANES: usize = 16;

/// Replaces the lower triangle of `matrix` (`[n, n]`, symmetric, row-major) by L with A = L Lᵀ; what is above the diagonal
/// is undefined afterwards. False where A is not positive definite in this precision.
pub(super) fn cholesky(matrix: &mut [f32], n: usize) -> bool {
    assert_eq!(matrix.len(), n * n);
    let arch = Arch::new();
    for first in (0..n).step_by(BLOCK) {
        let width = BLOCK.min(n - first);
        let (head, behind) = matrix.split_at_mut((first + width) * n);
        let mut columns = vec![0.0f64; width * width];
        let block = &mut head[first * n..];
        if !arch.dispatch(FactorBlock { block, n, first, columns: &mut columns }) {
            return false;
        }
        // What the block's columns are in the rows behind, then what they take from those rows.
        let mut panel = vec![0.0f32; behind.len() / n * width];
        panel.par_chunks_mut(LANES * width).zip(behind.par_chunks_mut(LANES * n)).for_each(
            |(panel, rows)| {
                for (panel, row) in panel.chunks_exact_mut(width).zip(rows.chunks_exact(n)) {
                    panel.copy_from_slice(&row[first..first + width]);
                }
                arch.dispatch(Solve { columns: &columns, rows: &mut *panel, width });
                for (panel, row) in panel.chunks_exact(width).zip(rows.chunks_exact_mut(n)) {
                    row[first..first + width].copy_from_slice(panel);
                }
            },
        );
        behind.par_chunks_mut(TASK_ROWS * n).enumerate().for_each(|(task, rows)| {
            let count = rows.len() / n;
            let begin = task * TASK_ROWS;
            // columns up to the diagonal of the last of these rows
            let own = Operand::spaced(&panel[begin * width..], [count, width], width);
            let others = Operand::spaced(&panel, [begin + count, width], width).transposed();
            multiply(&mut rows[first + width..], n, Onto::Itself, -1.0, own, others);
        });
    }
    true
}

/// Factors a diagonal block in f64: `block` are its rows of the whole matrix, `first` is its first column. L goes into
/// `columns`, column by column. False where it has none.
struct FactorBlock<'a> {
    block: &'a mut [f32],
    n: usize,
    first: usize,
    columns: &'a mut [f64],
}

/// A type of its own, as the body of a closure need not be compiled for the vector instructions found.
impl NullaryFnOnce for FactorBlock<'_> {
    type Output = bool;

    #[inline(always)]
    fn call(self) -> bool {
        let Self { block, n, first, columns } = self;
        let width = block.len() / n;
        for j in 0..width {
            let (before, own) = columns.split_at_mut(j * width);
            // Σ L_ik L_jk over the columns k before j, for the rows i from j on
            let mut products = [0.0f64; BLOCK];
            let products = &mut products[j..width];
            for column in before.chunks_exact(width) {
                let factor = column[j];
                products.iter_mut().zip(&column[j..]).for_each(|(sum, l)| *sum += l * factor);
            }
            let own = &mut own[j..width];
            for (i, (l, sum)) in own.iter_mut().zip(&*products).enumerate() {
                *l = f64::from(block[(j + i) * n + first + j]) - sum;
            }
            // also false for NaN
            if !(own[0] > 0.0 && own[0].is_finite()) {
                return false;
            }
            let root = own[0].sqrt();
            own[0] = root;
            own[1..].iter_mut().for_each(|l| *l /= root);
            for (i, l) in own.iter().enumerate() {
                block[(j + i) * n + first + j] = *l as f32;
            }
        }
        true
    }
}

/// Puts x with x Lᵀ = row in place of each of at most [`LANES`] rows of `width` values; `columns` are those of L.
struct Solve<'a> {
    columns: &'a [f64],
    rows: &'a mut [f32],
    width: usize,
}

impl NullaryFnOnce for Solve<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { columns, rows, width } = self;
        let mut x = [[0.0f64; LANES]; BLOCK];
        for (r, row) in rows.chunks_exact(width).enumerate() {
            x.iter_mut().zip(row).for_each(|(x, value)| x[r] = f64::from(*value));
        }
        for j in 0..width {
            let (before, own) = x.split_at_mut(j);
            let mut products = [0.0f64; LANES];
            for (x, column) in before.iter().zip(columns.chunks_exact(width)) {
                let factor = column[j];
                products.iter_mut().zip(x).for_each(|(sum, x)| *sum += x * factor);
            }
            let pivot = columns[j * width + j];
            own[0].iter_mut().zip(&products).for_each(|(x, sum)| *x = (*x - sum) / pivot);
        }
        for (r, row) in rows.chunks_exact_mut(width).enumerate() {
            row.iter_mut().zip(&x).for_each(|(value, x)| *value = x[r] as f32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// B Bᵀ + n I for a B without any pattern.
    fn positive_definite(n: usize) -> Vec<f32> {
        let value = |i: usize| ((i.wrapping_mul(2_654_435_761) >> 7) % 2001) as f32 / 1000.0 - 1.0;
        let mut a = vec![0.0; n * n];
        for i in 0..n {
            for j in 0..n {
                let product: f32 = (0..n).map(|k| value(i * n + k) * value(j * n + k)).sum();
                a[i * n + j] = product + if i == j { 0.1 * n as f32 } else { 0.0 };
            }
        }
        a
    }

    #[test]
    fn the_factor_gives_the_matrix_back() {
        for n in [1, 7, 128, 129, 300] {
            let a = positive_definite(n);
            let mut l = a.clone();
            assert!(cholesky(&mut l, n));
            for i in 0..n {
                for j in 0..=i {
                    let product: f64 =
                        (0..=j).map(|k| f64::from(l[i * n + k]) * f64::from(l[j * n + k])).sum();
                    let expected = f64::from(a[i * n + j]);
                    assert!(
                        (product - expected).abs() < 1e-4 * n as f64,
                        "{n}: {i}, {j}: {product} {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn an_indefinite_matrix_has_no_factor() {
        let mut a = positive_definite(200);
        a[150 * 200 + 150] = -1.0;
        assert!(!cholesky(&mut a, 200));
        assert!(!cholesky(&mut [f32::NAN], 1));
        assert!(!cholesky(&mut [0.0], 1));
    }
}
