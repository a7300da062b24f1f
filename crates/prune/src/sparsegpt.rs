//! SparseGPT: masks chosen column by column, while what is pruned is made up for by the columns behind it.
//!
//! Source: Frantar and Alistarh, "SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot", arXiv 2301.00774,
//! algorithm 1. It is written as `slmc_quant::gptq` writes error feedback: with H = (U + I) D (U + I)ᵀ,
//!
//!   tr((W − Ŵ) H (W − Ŵ)ᵀ) = Σ over rows and columns k of D_k (t_k − ŵ_k)²,  t_k = w_k + Σ_{j<k} (w_j − ŵ_j) U_jk.
//!
//! A weight that is kept becomes its target t_k and costs nothing; one that is pruned costs D_k t_k², which is the paper's
//! w² / \[H⁻¹\]_kk² of what is left of the matrix (equation 3). Masks of a share are chosen for [`BLOCK`] columns of all rows together, from
//! the targets in front of the block; those of a pattern for one group at a time, when its turn comes (section 3.3).

use rayon::prelude::*;
use slmc_matmul::{Onto, Operand, multiply};
use slmc_quant::gptq::FeedbackFactor;

use crate::error::{check_finite, count_rows};
use crate::select::{check_pattern, prune};
use crate::{Mask, PruneError, Sparsity};

/// Columns whose masks are chosen together: the paper's B_s, section 3.2.
pub const BLOCK: usize = 128;

/// Rows that one task feeds errors into.
const ROWS: usize = 64;

/// What became of a matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Pruned {
    /// `[n, columns]`, zero where pruned.
    pub weights: Vec<f32>,
    /// What is kept.
    pub mask: Mask,
}

/// Prunes `weights` (`[n, columns]`) under a damped Hessian. The result does not depend on the number of threads.
///
/// # Errors
/// Lengths that do not fit; weights that are not finite; columns that are no multiple of the pattern's M.
pub fn sparsegpt(weights: &[f32], factor: &FeedbackFactor, sparsity: Sparsity) -> Result<Pruned, PruneError> {
    let columns = factor.columns();
    let rows = count_rows("weights", weights, columns)?;
    check_finite("weights", weights)?;
    let mut block = BLOCK;
    if let Sparsity::Pattern { of, .. } = sparsity {
        check_pattern(columns, of)?;
        block = BLOCK / of * of;
    }
    let mut pass = Pass {
        weights,
        factor,
        errors: vec![0.0; weights.len()],
        targets: vec![0.0; rows * block],
        kept: vec![true; rows * block],
    };
    let (mut pruned, mut kept) = (weights.to_vec(), vec![true; weights.len()]);
    for first in (0..columns).step_by(block) {
        let width = block.min(columns - first);
        pass.aim(first, width);
        match sparsity {
            Sparsity::Share(_) => {
                let count = sparsity.pruned_of(rows * (first + width)) - sparsity.pruned_of(rows * first);
                pass.choose(first, width, count);
            }
            Sparsity::Pattern { .. } => {}
        }
        pass.feed(first, width, sparsity);
        for row in 0..rows {
            let at = row * columns + first;
            pruned[at..at + width].copy_from_slice(&pass.targets[row * width..][..width]);
            kept[at..at + width].copy_from_slice(&pass.kept[row * width..][..width]);
        }
    }
    Ok(Pruned { weights: pruned, mask: Mask::new(kept, columns) })
}

/// The pass over blocks of columns.
struct Pass<'a> {
    weights: &'a [f32],
    factor: &'a FeedbackFactor,
    /// w − ŵ of the columns that are done, `[rows, columns]`.
    errors: Vec<f32>,
    /// Targets of a block of columns, then its pruned weights, `[rows, width]`.
    targets: Vec<f32>,
    /// The block's mask, `[rows, width]`.
    kept: Vec<bool>,
}

impl Pass<'_> {
    /// The targets of the columns from `first` on: their weights and what all columns in front of them are worth there.
    fn aim(&mut self, first: usize, width: usize) {
        let (columns, upper) = (self.factor.columns(), self.factor.upper());
        let rows = self.weights.par_chunks(ROWS * columns).zip(self.errors.par_chunks(ROWS * columns));
        rows.zip(self.targets.par_chunks_mut(ROWS * width)).for_each(|((weights, errors), targets)| {
            for (target, row) in targets.chunks_exact_mut(width).zip(weights.chunks_exact(columns)) {
                target.copy_from_slice(&row[first..first + width]);
            }
            if first > 0 {
                let done = Operand::spaced(errors, [errors.len() / columns, first], columns);
                let coefficients = Operand::spaced(&upper[first..], [first, width], columns);
                multiply(targets, width, Onto::Itself, 1.0, done, coefficients);
            }
        });
    }

    /// Prunes the `count` weights of the block that cost least.
    fn choose(&mut self, first: usize, width: usize, count: usize) {
        let (columns, factor) = (self.factor.columns(), self.factor);
        let rows = self.weights.len() / columns;
        let targets = self.targets[..rows * width].par_chunks(width).zip(self.weights.par_chunks(columns));
        let costs = targets.flat_map_iter(|(targets, weights)| costs(targets, weights, factor, first));
        let cost: Vec<f32> = costs.collect();
        let kept = &mut self.kept[..rows * width];
        kept.fill(true);
        prune(kept, &cost, count);
    }

    /// Column by column: what is kept becomes its target, what is pruned 0, and the columns behind hear of it.
    fn feed(&mut self, first: usize, width: usize, sparsity: Sparsity) {
        let (columns, factor) = (self.factor.columns(), self.factor);
        let rows = self.weights.par_chunks(columns).zip(self.errors.par_chunks_mut(columns));
        let block = self.targets.par_chunks_mut(width).zip(self.kept.par_chunks_mut(width));
        rows.zip(block).for_each(|((weights, errors), (targets, kept))| {
            for k in 0..width {
                if let Sparsity::Pattern { kept: n, of } = sparsity
                    && k.is_multiple_of(of)
                {
                    let costs = costs(&targets[k..k + of], weights, factor, first + k);
                    kept[k..k + of].fill(true);
                    prune(&mut kept[k..k + of], &costs, of - n);
                }
                let column = first + k;
                if !kept[k] {
                    targets[k] = 0.0;
                }
                let error = weights[column] - targets[k];
                errors[column] = error;
                hear(&mut targets[k + 1..], error, factor, column);
            }
        });
    }
}

/// What pruning each of the columns from `first` on would cost, D t², if all in front of it that are still to come were kept: the
/// targets of columns in a row without the errors of those between.
fn costs(targets: &[f32], weights: &[f32], factor: &FeedbackFactor, first: usize) -> Vec<f32> {
    let mut targets = targets.to_vec();
    for k in 0..targets.len() {
        let error = weights[first + k] - targets[k];
        hear(&mut targets[k + 1..], error, factor, first + k);
    }
    targets.iter().zip(&factor.diagonal()[first..]).map(|(t, d)| d * t * t).collect()
}

/// Adds to the targets behind `column` what its error is worth there.
fn hear(behind: &mut [f32], error: f32, factor: &FeedbackFactor, column: usize) {
    let coefficients = &factor.upper()[column * factor.columns() + column + 1..];
    behind.iter_mut().zip(coefficients).for_each(|(target, u)| *target += error * u);
}
