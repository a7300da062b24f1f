//! What a rounded layer should aim at where its inputs are no longer those of the float model.
//!
//! Layers in front have been rounded, so that a layer that saw x in the float model now sees x̃. Its own weights W are then
//! not the best it could have: with y what should come out, H = 2/n Σ x̃ x̃ᵀ and some damping μ towards W,
//!
//!   W* = argmin over V of 2/n Σ ‖y − V x̃‖² + tr((V − W) μ (V − W)ᵀ) = W + (2/n Σ (y − W x̃) x̃ᵀ) (H + μ)⁻¹,
//!
//! and the cost of rounding to Ŵ is that of W* plus tr((W* − Ŵ) (H + μ) (W* − Ŵ)ᵀ): exactly what error feedback lessens, for W*
//! in place of W. With y = W x this is the correction of Li et al., "GPTAQ", arXiv 2504.02692, and of Zhang et al.,
//! "Qronos", arXiv 2505.11695; where a layer adds to the residual stream, y may hold what the stream has lost before, too.

use rayon::prelude::*;

use super::FeedbackFactor;
use super::tile::{Lanes, ROWS};
use crate::QuantError;
use crate::error::{check_length, count_rows};
use slmc_matmul::{Onto, Operand, multiply};

/// Columns solved one by one between two products; rows of a matrix that one task multiplies.
const BLOCK: usize = 64;

/// The correction of layers that share their inputs and should give what they gave for the float model's: y = W x.
#[derive(Clone, Debug)]
pub struct InputCorrection {
    columns: usize,
    /// T with W* = W + W T.
    matrix: Vec<f32>,
}

impl InputCorrection {
    /// From D = 2/n Σ (x − x̃) x̃ᵀ, `[columns, columns]`.
    ///
    /// # Errors
    /// A length that does not fit the factor's columns; values that are not finite.
    pub fn new(drift: Vec<f32>, factor: &FeedbackFactor) -> Result<Self, QuantError> {
        let columns = factor.columns();
        check_length("input drift", &drift, columns.saturating_mul(columns))?;
        check_finite("input drift", &drift)?;
        let mut matrix = drift;
        times_inverse(&mut matrix, factor);
        Ok(Self { columns, matrix })
    }

    /// From T with W* = W + W T, `[columns, columns]`, as [`InputCorrection::matrix`] gives it.
    ///
    /// # Errors
    /// A length that does not fit; values that are not finite.
    pub fn from_matrix(matrix: Vec<f32>, columns: usize) -> Result<Self, QuantError> {
        check_length("input correction", &matrix, columns.saturating_mul(columns))?;
        check_finite("input correction", &matrix)?;
        Ok(Self { columns, matrix })
    }

    /// T with W* = W + W T, `[columns, columns]`.
    pub fn matrix(&self) -> &[f32] {
        &self.matrix
    }

    /// W* in place of W (`[n, columns]`).
    ///
    /// # Errors
    /// A length that does not fit.
    pub fn apply(&self, weights: &mut [f32]) -> Result<(), QuantError> {
        let columns = self.columns;
        count_rows("weights", weights.len(), columns)?;
        weights.par_chunks_mut(BLOCK * columns).for_each(|rows| {
            let before = rows.to_vec();
            let before = Operand::spaced(&before, [rows.len() / columns, columns], columns);
            let matrix = Operand::spaced(&self.matrix, [columns, columns], columns);
            multiply(rows, columns, Onto::Itself, 1.0, before, matrix);
        });
        Ok(())
    }
}

/// W* in place of W (`[n, columns]`), from M = 2/n Σ (y − W x̃) x̃ᵀ (`[n, columns]`), for outputs y of any kind.
///
/// # Errors
/// Lengths that do not fit; values that are not finite.
pub fn aim_at_outputs(
    weights: &mut [f32],
    drift: Vec<f32>,
    factor: &FeedbackFactor,
) -> Result<(), QuantError> {
    count_rows("weights", weights.len(), factor.columns())?;
    check_length("output drift", &drift, weights.len())?;
    check_finite("output drift", &drift)?;
    let mut correction = drift;
    times_inverse(&mut correction, factor);
    weights.par_iter_mut().zip(&correction).for_each(|(w, c)| *w += c);
    Ok(())
}

fn check_finite(what: &'static str, values: &[f32]) -> Result<(), QuantError> {
    match values.iter().position(|v| !v.is_finite()) {
        Some(index) => Err(QuantError::Value { what, index, value: values[index] }),
        None => Ok(()),
    }
}

/// M H⁻¹ in place of M (`[n, columns]`), H damped: X (U + I) D (U + I)ᵀ = M is solved from the right.
///
/// # Panics
/// If `rows` does not hold whole rows of the factor's columns.
pub fn times_inverse(rows: &mut [f32], factor: &FeedbackFactor) {
    let columns = factor.columns();
    assert!(rows.len().is_multiple_of(columns));
    rows.par_chunks_mut(ROWS * columns).for_each_init(
        || vec![[0.0; ROWS]; columns],
        |lanes, rows| {
            for (r, row) in rows.chunks_exact(columns).enumerate() {
                lanes.iter_mut().zip(row).for_each(|(lanes, value)| lanes[r] = *value);
            }
            solve_backward(lanes, factor);
            for (lanes, d) in lanes.iter_mut().zip(factor.diagonal()) {
                lanes.iter_mut().for_each(|value| *value /= d);
            }
            solve_forward(lanes, factor);
            for (r, row) in rows.chunks_exact_mut(columns).enumerate() {
                row.iter_mut().zip(lanes.iter()).for_each(|(value, lanes)| *value = lanes[r]);
            }
        },
    );
}

/// Y with Y (U + I)ᵀ = M, in place: y_j = m_j − Σ_{k>j} U_jk y_k, from the last column on.
fn solve_backward(lanes: &mut [Lanes], factor: &FeedbackFactor) {
    let (n, upper) = (factor.columns(), factor.upper());
    for first in (0..n).step_by(BLOCK).rev() {
        let end = (first + BLOCK).min(n);
        let (block, behind) = lanes.split_at_mut(end);
        let block = &mut block[first..];
        if !behind.is_empty() {
            let coefficients = Operand::spaced(&upper[first * n + end..], [end - first, n - end], n);
            let values = Operand::spaced(behind.as_flattened(), [n - end, ROWS], ROWS);
            multiply(block.as_flattened_mut(), ROWS, Onto::Itself, -1.0, coefficients, values);
        }
        for j in (0..end - first).rev() {
            let (to, from) = block.split_at_mut(j + 1);
            let row = &upper[(first + j) * n + first + j + 1..];
            subtract(&mut to[j], from.iter().zip(row));
        }
    }
}

/// X with X (U + I) = Y, in place: x_k = y_k − Σ_{j<k} U_jk x_j, from the first column on.
fn solve_forward(lanes: &mut [Lanes], factor: &FeedbackFactor) {
    let (n, upper) = (factor.columns(), factor.upper());
    for first in (0..n).step_by(BLOCK) {
        let end = (first + BLOCK).min(n);
        let (before, block) = lanes[..end].split_at_mut(first);
        if first > 0 {
            let coefficients = Operand::spaced(&upper[first..], [first, end - first], n).transposed();
            let values = Operand::spaced(before.as_flattened(), [first, ROWS], ROWS);
            multiply(block.as_flattened_mut(), ROWS, Onto::Itself, -1.0, coefficients, values);
        }
        for k in 1..end - first {
            let (from, to) = block.split_at_mut(k);
            let column = upper[first * n + first + k..].iter().step_by(n);
            subtract(&mut to[0], from.iter().zip(column));
        }
    }
}

fn subtract<'a>(lanes: &mut Lanes, terms: impl Iterator<Item = (&'a Lanes, &'a f32)>) {
    for (values, u) in terms {
        for (lane, value) in lanes.iter_mut().zip(values) {
            *lane -= value * u;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(i: usize) -> f32 {
        ((i.wrapping_mul(2_654_435_761) >> 7) % 2001) as f32 / 1000.0 - 1.0
    }

    #[test]
    fn dividing_by_the_hessian_undoes_multiplying_with_it() {
        for n in [1, 63, 64, 200] {
            let mut h = vec![0.0; n * n];
            for i in 0..n {
                for j in 0..n {
                    let shared: f32 = (0..n).map(|k| value(i * n + k) * value(j * n + k)).sum();
                    h[i * n + j] = shared + if i == j { 0.2 * n as f32 } else { 0.0 };
                }
            }
            let factor = FeedbackFactor::new(h, n, 0.01).unwrap();
            let count = 70; // more than a tile, and no whole number of them
            let x: Vec<f32> = (0..count * n).map(|i| value(i + 7)).collect();
            let mut rows = vec![0.0; count * n];
            let hessian = Operand::spaced(factor.hessian(), [n, n], n);
            multiply(&mut rows, n, Onto::Zero, 1.0, Operand::spaced(&x, [count, n], n), hessian);
            times_inverse(&mut rows, &factor);
            let worst = rows.iter().zip(&x).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 2e-3, "{n}: {worst}");
        }
    }
}
