//! What rounding loses: in the weights, and in the outputs of the linear map they stand for.

use rayon::prelude::*;
use slmc_gguf::blocks::GramBlocks;

use crate::QuantError;
use crate::error::{check_length, count_rows};
use slmc_matmul::{Onto, Operand, multiply};

/// Rows that one task multiplies: enough to spread the packing of the other factor, few enough to keep buffers small.
const TASK_ROWS: usize = 128;

/// What is known of a linear map's inputs x, `[d_in]` each.
#[derive(Clone, Copy, Debug)]
pub enum InputStatistics<'a> {
    /// E\[xⱼ²\], `[d_in]`: inputs taken as uncorrelated. Cheapest: no matrix product.
    SecondMoments(&'a [f32]),
    /// E\[x xᵀ\] of runs of neighbours, those of different runs taken as uncorrelated.
    Products(&'a GramBlocks),
    /// H = E\[x xᵀ\], `[d_in, d_in]`, symmetric.
    Covariance(&'a [f32]),
    /// Inputs themselves, `[tokens, d_in]`: cheaper than [`InputStatistics::Covariance`] where tokens < d_in.
    Samples(&'a [f32]),
}

impl InputStatistics<'_> {
    fn check(&self, columns: usize) -> Result<(), QuantError> {
        match *self {
            Self::SecondMoments(moments) => check_length("second moments", moments, columns),
            Self::Products(gram) if gram.columns() == columns => Ok(()),
            Self::Products(gram) => Err(QuantError::Length {
                what: "products of inputs",
                expected: columns,
                found: gram.columns(),
            }),
            Self::Covariance(h) => check_length("covariance", h, columns.saturating_mul(columns)),
            Self::Samples([]) => {
                Err(QuantError::Length { what: "input samples", expected: columns, found: 0 })
            }
            Self::Samples(x) => count_rows("input samples", x.len(), columns).map(drop),
        }
    }

    /// Σᵢ dᵢᵀ H dᵢ over the rows dᵢ of `rows` (`[n, columns]`), on the calling thread.
    fn energy(&self, rows: &[f32], columns: usize, scratch: &mut Vec<f32>) -> f64 {
        let count = rows.len() / columns;
        match *self {
            Self::SecondMoments(moments) => rows
                .chunks_exact(columns)
                .map(|row| {
                    row.iter()
                        .zip(moments)
                        .map(|(&d, &h)| f64::from(d) * f64::from(d) * f64::from(h))
                        .sum::<f64>()
                })
                .sum(),
            Self::Products(gram) => {
                let len = gram.run_len();
                let runs = rows
                    .chunks_exact(columns)
                    .flat_map(|row| row.chunks_exact(len).zip(gram.values().chunks_exact(len * len)));
                runs.map(|(d, g)| {
                    let through = |row: &[f32]| -> f32 { row.iter().zip(d).map(|(g, d)| g * d).sum() };
                    g.chunks_exact(len)
                        .zip(d)
                        .map(|(row, &d)| f64::from(d) * f64::from(through(row)))
                        .sum::<f64>()
                })
                .sum()
            }
            Self::Covariance(h) => {
                scratch.resize(count * columns, 0.0);
                let [d, symmetric] =
                    [(rows, count), (h, columns)].map(|(x, n)| Operand::new(x, [n, columns]));
                multiply(scratch, columns, Onto::Zero, 1.0, d, symmetric);
                rows.iter().zip(scratch.iter()).map(|(&d, &p)| f64::from(d) * f64::from(p)).sum()
            }
            Self::Samples(x) => {
                let tokens = x.len() / columns;
                scratch.resize(count * tokens, 0.0);
                multiply_transposed(rows, x, columns, scratch);
                scratch.iter().map(|&y| f64::from(y) * f64::from(y)).sum::<f64>() / tokens as f64
            }
        }
    }
}

/// E‖(Ŵ − W) x‖² = tr((Ŵ − W) H (Ŵ − W)ᵀ): the mean squared error of the outputs, summed over them.
///
/// `weights` W and `rounded` Ŵ are `[d_out, columns]`. The products are in f32, the sums in f64 and in row order, so the
/// figure does not depend on the number of threads.
///
/// # Errors
/// Lengths that do not fit.
pub fn output_error(
    weights: &[f32],
    rounded: &[f32],
    columns: usize,
    inputs: InputStatistics<'_>,
) -> Result<f64, QuantError> {
    check_length("rounded weights", rounded, weights.len())?;
    sum_over_rows(weights, columns, inputs, |range, delta| {
        delta.extend(rounded[range.clone()].iter().zip(&weights[range]).map(|(r, w)| r - w));
    })
}

/// E‖W x‖² = tr(W H Wᵀ), what [`output_error`] is to be compared with.
///
/// # Errors
/// Lengths that do not fit.
pub fn output_energy(
    weights: &[f32],
    columns: usize,
    inputs: InputStatistics<'_>,
) -> Result<f64, QuantError> {
    sum_over_rows(weights, columns, inputs, |range, rows| rows.extend_from_slice(&weights[range]))
}

fn sum_over_rows(
    weights: &[f32],
    columns: usize,
    inputs: InputStatistics<'_>,
    fill: impl Fn(std::ops::Range<usize>, &mut Vec<f32>) + Sync,
) -> Result<f64, QuantError> {
    let rows = count_rows("weights", weights.len(), columns)?;
    inputs.check(columns)?;
    let parts: Vec<f64> = (0..rows.div_ceil(TASK_ROWS))
        .into_par_iter()
        .map_init(
            || (Vec::new(), Vec::new()),
            |(delta, scratch), task| {
                let range = task * TASK_ROWS * columns..((task + 1) * TASK_ROWS).min(rows) * columns;
                delta.clear();
                fill(range, delta);
                inputs.energy(delta, columns, scratch)
            },
        )
        .collect();
    Ok(parts.iter().sum())
}

/// ‖Ŵ − W‖ / ‖W‖ over all values (Frobenius norms, sums in f64); 0 where both are zero.
///
/// # Errors
/// Different lengths.
pub fn relative_error(weights: &[f32], rounded: &[f32]) -> Result<f64, QuantError> {
    const TASK: usize = 1 << 16;
    check_length("rounded weights", rounded, weights.len())?;
    let parts: Vec<(f64, f64)> = weights
        .par_chunks(TASK)
        .zip(rounded.par_chunks(TASK))
        .map(|(w, r)| {
            w.iter().zip(r).fold((0.0, 0.0), |(error, energy), (&w, &r)| {
                let (w, r) = (f64::from(w), f64::from(r));
                (error + (r - w) * (r - w), energy + w * w)
            })
        })
        .collect();
    Ok(ratio_of_norms(parts.iter().map(|p| p.0).sum(), parts.iter().map(|p| p.1).sum()))
}

/// √([`output_error`] / [`output_energy`]): the part of the outputs' norm that rounding changes.
///
/// # Errors
/// Lengths that do not fit.
pub fn relative_output_error(
    weights: &[f32],
    rounded: &[f32],
    columns: usize,
    inputs: InputStatistics<'_>,
) -> Result<f64, QuantError> {
    Ok(ratio_of_norms(
        output_error(weights, rounded, columns, inputs)?,
        output_energy(weights, columns, inputs)?,
    ))
}

fn ratio_of_norms(error: f64, energy: f64) -> f64 {
    if error == 0.0 { 0.0 } else { (error / energy).sqrt() }
}

/// out = A Bᵀ: `a` is `[m, k]`, `b` `[n, k]`, `out` `[m, n]`.
fn multiply_transposed(a: &[f32], b: &[f32], k: usize, out: &mut [f32]) {
    let (m, n) = (a.len() / k, b.len() / k);
    multiply(
        out,
        n,
        Onto::Zero,
        1.0,
        Operand::spaced(a, [m, k], k),
        Operand::spaced(b, [n, k], k).transposed(),
    );
}
