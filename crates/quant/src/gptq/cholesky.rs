//! The Cholesky factor of a large matrix, the same at any number of threads.
//!
//! Right-looking and blocked (Golub and Van Loan, "Matrix Computations", 4th edition, algorithm 4.2.4): almost all work is in
//! the products that update what is behind a block, and each of those is computed by one thread.

use rayon::prelude::*;

use slmc_matmul::{Onto, Operand, multiply};

/// Columns factored at a time.
const BLOCK: usize = 128;

/// Rows behind a block that one task updates.
const TASK_ROWS: usize = 128;

/// Replaces the lower triangle of `matrix` (`[n, n]`, symmetric, row-major) by L with A = L Lᵀ; what is above the diagonal
/// is undefined afterwards. False where A is not positive definite in this precision.
pub(super) fn cholesky(matrix: &mut [f32], n: usize) -> bool {
    assert_eq!(matrix.len(), n * n);
    for first in (0..n).step_by(BLOCK) {
        let width = BLOCK.min(n - first);
        let (head, behind) = matrix.split_at_mut((first + width) * n);
        let block = &mut head[first * n..];
        let Some(lower) = factor_block(block, n, first, width) else { return false };
        // What the block's columns are in the rows behind, then what they take from those rows.
        let mut panel = vec![0.0f32; behind.len() / n * width];
        panel.par_chunks_exact_mut(width).zip(behind.par_chunks_exact_mut(n)).for_each(|(panel, row)| {
            solve(&lower, &mut row[first..first + width]);
            panel.copy_from_slice(&row[first..first + width]);
        });
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

/// Factors the diagonal block in f64; `block` are its rows of the whole matrix. Returns L, `[width, width]`.
fn factor_block(block: &mut [f32], n: usize, first: usize, width: usize) -> Option<Vec<f64>> {
    let mut lower = vec![0.0f64; width * width];
    for i in 0..width {
        for j in 0..=i {
            let products: f64 = (0..j).map(|k| lower[i * width + k] * lower[j * width + k]).sum();
            let left = f64::from(block[i * n + first + j]) - products;
            lower[i * width + j] = if i == j {
                // also false for NaN
                if !(left > 0.0 && left.is_finite()) {
                    return None;
                }
                left.sqrt()
            } else {
                left / lower[j * width + j]
            };
            block[i * n + first + j] = lower[i * width + j] as f32;
        }
    }
    Some(lower)
}

/// x with x Lᵀ = row.
fn solve(lower: &[f64], row: &mut [f32]) {
    let width = row.len();
    let mut x = [0.0f64; BLOCK];
    for j in 0..width {
        let products: f64 = x[..j].iter().zip(&lower[j * width..]).map(|(x, l)| x * l).sum();
        x[j] = (f64::from(row[j]) - products) / lower[j * width + j];
    }
    row.iter_mut().zip(x).for_each(|(row, x)| *row = x as f32);
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
