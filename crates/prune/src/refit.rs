//! The weights that remain, solved again: the row-wise least squares that SparseGPT approximates.
//!
//! For a row w and the columns S that its mask keeps, tr((w − ŵ) H (w − ŵ)ᵀ) is least where H_SS ŵ_S = (w H)_S. SparseGPT solves
//! for the columns behind each pruned one only (arXiv 2301.00774, section 3.1); here all columns of S move. The systems of many
//! rows are solved side by side by conjugate gradients, preconditioned by H's diagonal: an iteration is one matrix product, and
//! none makes the loss greater (Hestenes and Stiefel 1952; Saad, "Iterative Methods for Sparse Linear Systems", algorithm 9.1).
//!
//! Between two solutions, kept and pruned weights may change places: removing p costs w_p² H_pp + 2 w_p g_p, and what adding q then
//! gains is (g_q + w_p H_pq)² / H_qq, with g = (w − ŵ) H.

use rayon::prelude::*;
use slmc_matmul::{Onto, Operand, multiply};
use slmc_quant::gptq::FeedbackFactor;

use crate::error::count_rows;
use crate::sparsegpt::Pruned;
use crate::{Mask, PruneError, Sparsity};

/// Rows whose systems are solved side by side.
const ROWS: usize = 64;

/// How long to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refit {
    /// Iterations of conjugate gradients for one solution.
    pub iterations: usize,
    /// Times that weights change places, each followed by a solution.
    pub exchanges: usize,
}

impl Refit {
    /// One solution, no exchanges.
    pub const BALANCED: Self = Self { iterations: 12, exchanges: 0 };

    /// Masks that go on changing.
    pub const BEST: Self = Self { iterations: 20, exchanges: 6 };
}

/// Part of a row's columns that may change places at a time: their gains are told from what the row was before.
const EXCHANGED_PART: usize = 32;

/// Solves for the weights that `pruned` keeps, with `targets` (`[n, columns]`) what they should have been. The loss under the damped
/// Hessian becomes no greater; as many weights of every row, or of every group of a pattern, stay pruned. The result does not depend on
/// the number of threads.
///
/// # Errors
/// Lengths that do not fit.
pub fn refit(
    targets: &[f32],
    pruned: Pruned,
    factor: &FeedbackFactor,
    sparsity: Sparsity,
    how: Refit,
) -> Result<Pruned, PruneError> {
    let columns = factor.columns();
    count_rows("targets", targets, columns)?;
    let Pruned { mut weights, mask } = pruned;
    if weights.len() != targets.len() {
        let (expected, found) = (targets.len(), weights.len());
        return Err(PruneError::Length { what: "weights", expected, found });
    }
    let mut kept = mask.kept().to_vec();
    let group = match sparsity {
        Sparsity::Share(_) => columns,
        Sparsity::Pattern { of, .. } => of,
    };
    let tiles = weights.par_chunks_mut(ROWS * columns).zip(kept.par_chunks_mut(ROWS * columns));
    tiles.zip(targets.par_chunks(ROWS * columns)).for_each(|((weights, kept), targets)| {
        let mut tile = Tile::new(targets, weights, kept, factor);
        tile.solve(how.iterations);
        for _ in 0..how.exchanges {
            if !tile.exchange(group) {
                break;
            }
            tile.solve(how.iterations);
        }
    });
    Ok(Pruned { weights, mask: Mask::new(kept, columns) })
}

/// tr((T − W) H (T − W)ᵀ) with `targets` T and `weights` W, both `[n, columns]`, under the factor's damped Hessian.
///
/// # Errors
/// Lengths that do not fit.
pub fn loss(targets: &[f32], weights: &[f32], factor: &FeedbackFactor) -> Result<f64, PruneError> {
    let columns = factor.columns();
    count_rows("targets", targets, columns)?;
    let tiles = targets.par_chunks(ROWS * columns).zip(weights.par_chunks(ROWS * columns));
    let parts: Vec<f64> = tiles
        .map(|(targets, weights)| {
            let lost: Vec<f32> = targets.iter().zip(weights).map(|(t, w)| t - w).collect();
            let mut through = vec![0.0; lost.len()];
            times_hessian(&lost, factor, &mut through);
            dot(&lost, &through)
        })
        .collect();
    Ok(parts.iter().sum())
}

/// Some rows, solved on one thread.
struct Tile<'a> {
    targets: &'a [f32],
    weights: &'a mut [f32],
    kept: &'a mut [bool],
    factor: &'a FeedbackFactor,
    /// H's diagonal.
    diagonal: Vec<f32>,
    /// g = (t − w) H, of all columns.
    gradient: Vec<f32>,
    direction: Vec<f32>,
    /// direction · H.
    through: Vec<f32>,
}

impl<'a> Tile<'a> {
    fn new(
        targets: &'a [f32],
        weights: &'a mut [f32],
        kept: &'a mut [bool],
        factor: &'a FeedbackFactor,
    ) -> Self {
        let room = || vec![0.0; targets.len()];
        let diagonal = factor.hessian().iter().step_by(factor.columns() + 1).copied().collect();
        let (gradient, direction, through) = (room(), room(), room());
        Self { targets, weights, kept, factor, diagonal, gradient, direction, through }
    }

    fn gradient(&mut self) {
        let lost = self.targets.iter().zip(&*self.weights).map(|(t, w)| t - w);
        self.direction.iter_mut().zip(lost).for_each(|(d, lost)| *d = lost);
        times_hessian(&self.direction, self.factor, &mut self.gradient);
    }

    /// Conjugate gradients from where the weights are.
    fn solve(&mut self, iterations: usize) {
        /// Part of the first residual at which a row is solved as well as f32 can tell.
        const SOLVED: f64 = 1e-10;
        let columns = self.factor.columns();
        self.gradient();
        let mut rho = vec![0.0; self.targets.len() / columns];
        self.direction.fill(0.0);
        self.turn(&mut rho, true);
        let done: Vec<f64> = rho.iter().map(|rho| rho * SOLVED).collect();
        for _ in 0..iterations {
            times_hessian(&self.direction, self.factor, &mut self.through);
            for (row, rho) in rho.iter().enumerate() {
                let of = row * columns..(row + 1) * columns;
                let (direction, through) = (&self.direction[of.clone()], &self.through[of.clone()]);
                let curvature = dot(direction, through);
                if *rho <= done[row] || curvature <= 0.0 {
                    self.direction[of].fill(0.0);
                    continue;
                }
                let step = (rho / curvature) as f32;
                let weights = self.weights[of.clone()].iter_mut().zip(direction);
                weights.for_each(|(w, d)| *w += step * d);
                self.gradient[of].iter_mut().zip(through).for_each(|(g, t)| *g -= step * t);
            }
            self.turn(&mut rho, false);
        }
    }

    /// The next directions: the preconditioned gradient of what is kept, conjugate to the last ones. `rho` is their product.
    fn turn(&mut self, rho: &mut [f64], first: bool) {
        let columns = self.factor.columns();
        for (row, rho) in rho.iter_mut().enumerate() {
            let of = row * columns..(row + 1) * columns;
            let (gradient, kept) = (&self.gradient[of.clone()], &self.kept[of.clone()]);
            let preconditioned = |k: usize| if kept[k] { gradient[k] / self.diagonal[k] } else { 0.0 };
            let next: f64 = (0..columns).map(|k| f64::from(gradient[k]) * f64::from(preconditioned(k))).sum();
            let beta = if first || *rho <= 0.0 { 0.0 } else { (next / *rho) as f32 };
            for (k, direction) in self.direction[of].iter_mut().enumerate() {
                *direction = preconditioned(k) + beta * *direction;
            }
            *rho = next;
        }
    }

    /// Lets kept and pruned weights of a group change places where that lessens the loss; whether any did.
    fn exchange(&mut self, group: usize) -> bool {
        let columns = self.factor.columns();
        self.gradient();
        let mut any = false;
        for row in 0..self.targets.len() / columns {
            for first in (0..columns).step_by(group) {
                for _ in 0..(group / EXCHANGED_PART).max(1) {
                    let Some((out, into)) = self.best_exchange(row * columns, first..first + group) else {
                        break;
                    };
                    self.swap(row * columns, out, into);
                    any = true;
                }
            }
        }
        any
    }

    /// The kept column whose removal costs least and the pruned one that then gains most, where they gain more than they cost.
    fn best_exchange(&self, row: usize, group: std::ops::Range<usize>) -> Option<(usize, usize)> {
        let (columns, hessian) = (self.factor.columns(), self.factor.hessian());
        let (weights, gradient) = (&self.weights[row..][..columns], &self.gradient[row..][..columns]);
        let kept = &self.kept[row..][..columns];
        let cost = |p: usize| weights[p] * (weights[p] * self.diagonal[p] + 2.0 * gradient[p]);
        let out = group.clone().filter(|p| kept[*p]).min_by(|a, b| cost(*a).total_cmp(&cost(*b)))?;
        let gain = |q: usize| {
            let slope = gradient[q] + weights[out] * hessian[out * columns + q];
            slope * slope / self.diagonal[q]
        };
        let into = group.filter(|q| !kept[*q]).max_by(|a, b| gain(*a).total_cmp(&gain(*b)))?;
        // a gain within rounding is none, and weights would change places for ever
        (gain(into) > cost(out) * 1.0001 + f32::MIN_POSITIVE).then_some((out, into))
    }

    fn swap(&mut self, row: usize, out: usize, into: usize) {
        let (columns, hessian) = (self.factor.columns(), self.factor.hessian());
        let removed = self.weights[row + out];
        let slope = self.gradient[row + into] + removed * hessian[out * columns + into];
        let added = slope / self.diagonal[into];
        (self.weights[row + out], self.weights[row + into]) = (0.0, added);
        (self.kept[row + out], self.kept[row + into]) = (false, true);
        let [from, to] = [out, into].map(|k| &hessian[k * columns..][..columns]);
        for (g, (from, to)) in self.gradient[row..][..columns].iter_mut().zip(from.iter().zip(to)) {
            *g += removed * from - added * to;
        }
    }
}

/// out = rows · H.
fn times_hessian(rows: &[f32], factor: &FeedbackFactor, out: &mut [f32]) {
    let columns = factor.columns();
    let hessian = Operand::spaced(factor.hessian(), [columns, columns], columns);
    multiply(
        out,
        columns,
        Onto::Zero,
        1.0,
        Operand::spaced(rows, [rows.len() / columns, columns], columns),
        hessian,
    );
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}
