//! The pass over the columns that feeds errors forward.

use slmc_gguf::blocks::Levels;

use super::tile::IntTile;
use crate::gptq::FeedbackFactor;
use crate::gptq::order::OrderedFactor;
use crate::gptq::tile::{BLOCK, Lanes, ROWS, accumulate};
use crate::int::IntGrid;
use crate::int::fit::{ScaleRule, Steps, fit};
use crate::int::tile::levels;

/// Columns inside which errors are fed forward one column at a time; divides every group that is shorter than a row.
const STEP: usize = 32;

/// Factors of a group's scale that are tried with the feedback inside the group; the first wins where none is better.
const TRIED: [f32; 9] = [1.0, 0.97, 1.03, 0.94, 1.06, 0.91, 1.1, 0.87, 1.15];

/// Working space of the pass. Positions count columns in the order of rounding.
pub struct Feedback {
    levels: Levels,
    /// Targets of `BLOCK` positions.
    targets: Vec<Lanes>,
    /// W − Ŵ of all positions so far.
    errors: Vec<Lanes>,
    /// Importances of one group.
    importance: Vec<Lanes>,
    /// What its targets will be, rounding errors within the group aside.
    expected: Vec<Lanes>,
    /// What `STEP` of its columns lose.
    lost: Vec<Lanes>,
}

/// When scales are fitted.
#[derive(Clone, Copy)]
enum Scales {
    /// They are already.
    Given,
    /// When a group's first column comes, to the targets of its columns; a row's only scale to the weights.
    Fitted(ScaleRule),
}

impl Feedback {
    pub fn new(grid: IntGrid, columns: usize) -> Self {
        let zero = [0.0; ROWS];
        Self {
            levels: levels(grid),
            targets: vec![zero; BLOCK],
            errors: vec![zero; columns],
            importance: vec![zero; grid.group_len()],
            expected: vec![zero; grid.group_len()],
            lost: vec![zero; STEP],
        }
    }

    /// Chooses the tile's steps, codes and errors, columns as they stand.
    #[inline(always)]
    pub fn in_natural_order(&mut self, tile: &mut IntTile, factor: &FeedbackFactor, rule: ScaleRule) {
        let columns = tile.weights.len();
        let whole_rows = tile.steps.len() == 1;
        if whole_rows {
            self.weigh(factor, 0);
            tile.steps[0] = fit(tile.grid, rule, &tile.storable(), &self.importance);
        }
        let scales = if whole_rows { Scales::Given } else { Scales::Fitted(rule) };
        self.run(tile, factor, |position| position, scales);
        tile.errors[..columns].copy_from_slice(&self.errors);
    }

    /// Chooses the tile's codes and errors under the steps it has, columns in the factor's order.
    #[inline(always)]
    pub fn in_order(&mut self, tile: &mut IntTile, ordered: &OrderedFactor) {
        self.run(tile, &ordered.factor, |position| ordered.columns[position], Scales::Given);
        for (column, error) in ordered.columns.iter().zip(&self.errors) {
            tile.errors[*column] = *error;
        }
    }

    #[inline(always)]
    fn run(
        &mut self,
        tile: &mut IntTile,
        factor: &FeedbackFactor,
        column_at: impl Fn(usize) -> usize,
        scales: Scales,
    ) {
        let (columns, group_len) = (tile.weights.len(), tile.grid.group_len());
        for first in (0..columns).step_by(BLOCK) {
            let width = BLOCK.min(columns - first);
            for (k, target) in self.targets[..width].iter_mut().enumerate() {
                *target = tile.weights[column_at(first + k)];
            }
            self.feed(factor, 0..first, first, 0..width);
            for at in (0..width).step_by(STEP) {
                let end = width.min(at + STEP);
                if let Scales::Fitted(rule) = scales
                    && (first + at).is_multiple_of(group_len)
                {
                    self.weigh(factor, first + at);
                    self.expect(tile, factor, first + at, at);
                    let mut steps = fit(tile.grid, rule, &self.expected, &self.importance);
                    if rule == ScaleRule::Search {
                        steps = self.try_scales(tile, factor, first + at, at, &steps);
                    }
                    tile.steps[(first + at) / group_len] = steps;
                }
                for k in at..end {
                    let column = column_at(first + k);
                    self.round(tile, factor, first + k, column, k, end);
                }
                self.feed(factor, first + at..first + end, first, end..width);
            }
        }
    }

    /// Rounds one column, whose target is `targets[k]`, and feeds its error to those up to `end`.
    #[inline(always)]
    fn round(
        &mut self,
        tile: &mut IntTile,
        factor: &FeedbackFactor,
        position: usize,
        column: usize,
        k: usize,
        end: usize,
    ) {
        let steps = &tile.steps[column / tile.grid.group_len()];
        let (levels, free) = (self.levels, *tile.free(column));
        let (target, weight) = (&self.targets[k], &tile.weights[column]);
        let (codes, error) = (&mut tile.codes[column], &mut self.errors[position]);
        for r in 0..ROWS {
            codes[r] = levels.nearest(target[r] * free[r] * steps.inverse[r] + steps.zero[r]);
            error[r] = weight[r] - steps.size[r] * (levels.level(codes[r]) - steps.zero[r]);
        }
        let coefficients = &factor.upper()[position * factor.columns() + position + 1..];
        for (target, u) in self.targets[k + 1..end].iter_mut().zip(coefficients) {
            for r in 0..ROWS {
                target[r] += error[r] * u;
            }
        }
    }

    /// The targets of the group at `first`, whose first one is `targets[at]`, if each of its columns could be stored as it
    /// should be: then every column makes up for its share of earlier errors, and those behind it have less to make up for.
    /// These are the weights that the paper's algorithm has in front of it when it comes to the group.
    #[inline(always)]
    fn expect(&mut self, tile: &IntTile, factor: &FeedbackFactor, first: usize, at: usize) {
        let len = self.expected.len();
        self.expected.copy_from_slice(&self.targets[at..at + len]);
        for k in 0..len {
            let (weight, free) = (&tile.weights[first + k], tile.free(first + k));
            let (value, error) = (&mut self.expected[k], &mut self.lost[k % STEP]);
            for r in 0..ROWS {
                value[r] *= free[r];
                error[r] = weight[r] - value[r];
            }
            self.tell(factor, first, k);
        }
    }

    /// Tells the columns behind the k-th of the group at `first` what that one lost: those up to the next multiple of
    /// `STEP` at once, the others when all of them are through.
    #[inline(always)]
    fn tell(&mut self, factor: &FeedbackFactor, first: usize, k: usize) {
        let (upper, columns) = (factor.upper(), factor.columns());
        let end = self.expected.len().min((k / STEP + 1) * STEP);
        let error = &self.lost[k % STEP];
        let coefficients = &upper[(first + k) * columns + first + k + 1..];
        for (target, u) in self.expected[k + 1..end].iter_mut().zip(coefficients) {
            for r in 0..ROWS {
                target[r] += error[r] * u;
            }
        }
        if k + 1 == end {
            let lost = &self.lost[..=k % STEP];
            accumulate(
                &mut self.expected[end..],
                upper,
                columns,
                first + end - lost.len(),
                first + end,
                lost,
            );
        }
    }

    /// The best of some scales around those of `steps`, for the group at `first` whose first target is `targets[at]`: each is
    /// tried on the whole group, with the feedback inside it. What a group loses does not change what later ones lose
    /// beyond its errors, which they are told, so the group's own loss decides.
    #[inline(always)]
    fn try_scales(
        &mut self,
        tile: &IntTile,
        factor: &FeedbackFactor,
        first: usize,
        at: usize,
        steps: &Steps,
    ) -> Steps {
        let (mut best, mut least) = (*steps, [f32::INFINITY; ROWS]);
        for factor_tried in TRIED {
            let tried = steps.stretched(tile.grid, factor_tried);
            let loss = self.group_loss(tile, factor, first, at, &tried);
            for r in 0..ROWS {
                if loss[r] < least[r] {
                    least[r] = loss[r];
                    best.size[r] = tried.size[r];
                    best.inverse[r] = tried.inverse[r];
                }
            }
        }
        best
    }

    /// Σ D_k (t_k − ŵ_k)² over a group rounded under `steps`.
    #[inline(always)]
    fn group_loss(
        &mut self,
        tile: &IntTile,
        factor: &FeedbackFactor,
        first: usize,
        at: usize,
        steps: &Steps,
    ) -> Lanes {
        let (levels, mut loss) = (self.levels, [0.0f32; ROWS]);
        let len = self.expected.len();
        self.expected.copy_from_slice(&self.targets[at..at + len]);
        for k in 0..len {
            let (weight, free) = (&tile.weights[first + k], tile.free(first + k));
            let (target, error) = (&self.expected[k], &mut self.lost[k % STEP]);
            let cost = factor.diagonal()[first + k];
            for r in 0..ROWS {
                let code = levels.nearest(target[r] * free[r] * steps.inverse[r] + steps.zero[r]);
                let value = steps.size[r] * (levels.level(code) - steps.zero[r]);
                loss[r] += cost * (target[r] - value) * (target[r] - value);
                error[r] = weight[r] - value;
            }
            self.tell(factor, first, k);
        }
        loss
    }

    /// Weighs the columns of the group at `first` by what an error against their targets costs.
    #[inline(always)]
    fn weigh(&mut self, factor: &FeedbackFactor, first: usize) {
        for (importance, d) in self.importance.iter_mut().zip(&factor.diagonal()[first..]) {
            *importance = [*d; ROWS];
        }
    }

    /// Adds to the targets `to` (counted from position `first`) what the errors of positions `from` are worth there.
    fn feed(
        &mut self,
        factor: &FeedbackFactor,
        from: std::ops::Range<usize>,
        first: usize,
        to: std::ops::Range<usize>,
    ) {
        let column = first + to.start;
        let errors = &self.errors[from.clone()];
        accumulate(&mut self.targets[to], factor.upper(), factor.columns(), from.start, column, errors);
    }
}
