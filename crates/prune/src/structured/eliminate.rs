//! Which groups of columns can be spared.
//!
//! Where the others make up for it as well as they can, removing the columns S from a matrix W costs
//! tr(W_S (\[H⁻¹\]_SS)⁻¹ W_Sᵀ), and leaves W − W_S (\[H⁻¹\]_SS)⁻¹ \[H⁻¹\]_S and H⁻¹ − \[H⁻¹\]_·S (\[H⁻¹\]_SS)⁻¹ \[H⁻¹\]_S·
//! (Hassibi and Stork 1993; for groups Kurtic et al., "ZipLM", arXiv 2302.04089, section 3.1, algorithm 1). The cheapest groups go
//! first; after each round of removals the others' costs are told anew.

use rayon::prelude::*;
use slmc_matmul::{Onto, Operand, multiply};
use slmc_quant::gptq::{FeedbackFactor, times_inverse};

use super::Groups;
use super::importance::squared_norms;
use super::solve::columns_of;
use crate::PruneError;
use crate::error::{check_finite, count_rows};

/// Rows that one task multiplies.
const ROWS: usize = 64;

/// Groups in the order in which they went, and what had been lost then.
#[derive(Clone, Debug, PartialEq)]
pub struct Elimination {
    groups: Groups,
    /// In the order of removal.
    pub removed: Vec<usize>,
    /// Under a Hessian, the squared error of the product's outputs, in the Hessian's units, when this many groups had gone: one more than
    /// `removed` are. Elsewhere the importance that had gone.
    pub costs: Vec<f64>,
}

impl Elimination {
    /// The groups with the least of a measure that does not depend on the others; of each family as many.
    ///
    /// # Errors
    /// Lengths that do not fit; a number that cannot go.
    pub fn by_importance(groups: Groups, importance: &[f64], count: usize) -> Result<Self, PruneError> {
        groups.check_removed(count)?;
        if importance.len() != groups.count() {
            let (expected, found) = (groups.count(), importance.len());
            return Err(PruneError::Length { what: "importance", expected, found });
        }
        let mut this = Self { groups, removed: Vec::new(), costs: vec![0.0] };
        let mut left: Vec<usize> = (0..groups.count()).collect();
        left.sort_by(|a, b| importance[*a].total_cmp(&importance[*b]));
        let mut round = Round::new(groups, count);
        for group in left {
            if round.take(group) {
                this.remove(group, importance[group]);
            }
        }
        Ok(this)
    }

    fn remove(&mut self, group: usize, cost: f64) {
        self.removed.push(group);
        self.costs.push(self.costs[self.costs.len() - 1] + cost);
    }

    /// The groups that stay when the first `count` have gone, ascending.
    pub fn kept(&self, count: usize) -> Vec<usize> {
        let removed = &self.removed[..count];
        (0..self.groups.count()).filter(|group| !removed.contains(group)).collect()
    }
}

/// How many groups each family may still lose.
struct Round {
    groups: Groups,
    left: Vec<usize>,
}

impl Round {
    fn new(groups: Groups, count: usize) -> Self {
        Self { groups, left: vec![count / groups.families(); groups.families()] }
    }

    fn take(&mut self, group: usize) -> bool {
        let left = &mut self.left[self.groups.family_of(group)];
        let may = *left > 0;
        *left -= usize::from(may);
        may
    }
}

/// Removes `count` groups of `weights`' columns (`[n, columns]`) under a damped Hessian, in about `rounds` rounds. The result does not
/// depend on the number of threads.
///
/// # Errors
/// Lengths that do not fit; values that are not finite; a number that cannot go.
pub fn eliminate(
    weights: &[f32],
    groups: Groups,
    factor: &FeedbackFactor,
    count: usize,
    rounds: usize,
) -> Result<Elimination, PruneError> {
    let columns = groups.columns();
    groups.check_removed(count)?;
    count_rows("weights", weights, columns)?;
    check_finite("weights", weights)?;
    if factor.columns() != columns {
        return Err(PruneError::Length { what: "Hessian", expected: columns, found: factor.columns() });
    }
    let mut state = State::new(weights, groups, factor);
    let mut left: Vec<usize> = (0..groups.count()).collect();
    let mut all = Elimination { groups, removed: Vec::new(), costs: vec![0.0] };
    let mut may = Round::new(groups, count);
    let step = count.div_ceil(rounds.max(1)).max(1);
    while all.removed.len() < count {
        let mut costs = state.costs(&left)?;
        costs.sort_by(|a, b| a.1.total_cmp(&b.1));
        let mut batch = Vec::new();
        for (group, cost) in costs {
            if batch.len() < step && may.take(group) {
                batch.push(group);
                all.remove(group, cost);
            }
        }
        left.retain(|group| !batch.contains(group) && may.left[groups.family_of(*group)] > 0);
        batch.sort_unstable();
        state.remove(&groups.columns_of(&batch))?;
    }
    Ok(all)
}

/// W and H⁻¹ as what went has left them.
struct State {
    groups: Groups,
    weights: Vec<f32>,
    inverse: Vec<f32>,
}

impl State {
    fn new(weights: &[f32], groups: Groups, factor: &FeedbackFactor) -> Self {
        let columns = groups.columns();
        let mut inverse = vec![0.0; columns * columns];
        inverse.iter_mut().step_by(columns + 1).for_each(|value| *value = 1.0);
        times_inverse(&mut inverse, factor);
        Self { groups, weights: weights.to_vec(), inverse }
    }

    /// What removing each of these groups would cost.
    fn costs(&self, groups: &[usize]) -> Result<Vec<(usize, f64)>, PruneError> {
        let columns = self.groups.columns();
        if self.groups.width() == 1 {
            let squares = squared_norms(&self.weights, columns);
            let cost = |k: usize| squares[k] / f64::from(self.inverse[k * columns + k]);
            return Ok(groups.iter().map(|&group| (group, cost(group))).collect());
        }
        let cost = |&group: &usize| {
            let range: Vec<usize> = self.groups.range(group).collect();
            let own = columns_of(&self.weights, columns, &range);
            let mut through = own.clone();
            times_inverse(&mut through, &self.factor(&range)?);
            let cost = own.iter().zip(&through).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            Ok((group, cost))
        };
        groups.iter().map(cost).collect()
    }

    /// \[H⁻¹\]_SS.
    fn factor(&self, columns: &[usize]) -> Result<FeedbackFactor, PruneError> {
        let all = self.groups.columns();
        let block =
            columns.iter().flat_map(|row| columns.iter().map(move |column| self.inverse[row * all + column]));
        Ok(FeedbackFactor::new(block.collect(), columns.len(), 0.0)?)
    }

    /// Removes columns.
    fn remove(&mut self, removed: &[usize]) -> Result<(), PruneError> {
        let (columns, count) = (self.groups.columns(), removed.len());
        let factor = self.factor(removed)?;
        // [H⁻¹]_·S (all rows), and the same through ([H⁻¹]_SS)⁻¹; H⁻¹ is symmetric
        let own = columns_of(&self.inverse, columns, removed);
        let mut through = own.clone();
        times_inverse(&mut through, &factor);
        let through = Operand::spaced(&through, [columns, count], count).transposed();
        for matrix in [&mut self.weights, &mut self.inverse] {
            matrix.par_chunks_mut(ROWS * columns).for_each(|rows| {
                let taken = columns_of(rows, columns, removed);
                let taken = Operand::spaced(&taken, [rows.len() / columns, count], count);
                multiply(rows, columns, Onto::Itself, -1.0, taken, through);
            });
        }
        for &column in removed {
            for matrix in [&mut self.weights, &mut self.inverse] {
                matrix.iter_mut().skip(column).step_by(columns).for_each(|value| *value = 0.0);
            }
            self.inverse[column * columns..][..columns].fill(0.0);
        }
        Ok(())
    }
}
