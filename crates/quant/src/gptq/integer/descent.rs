//! Coordinate descent over codes and scales after the feedback pass, as [`super::super::descent`] does it for block formats.
//!
//! With E = W − Ŵ and G = E H, the best value in place of ŵ_k, all others as they are, is ŵ_k + G_k / H_kk. For given codes
//! with levels q − z, a group's best scale is larger by Σ G (q − z) / (q − z)ᵀ H (q − z), sums over the group.

use std::ops::Range;

use slmc_gguf::blocks::Levels;

use super::tile::IntTile;
use crate::gptq::tile::{BLOCK, Lanes, ROWS, accumulate};
use crate::int::IntGrid;
use crate::int::tile::levels;

/// Columns inside which G is kept right one column at a time; divides every group that is shorter than a row.
const STEP: usize = 32;

/// Working space: G = E H of all columns, what a window's values changed by, and what some of its columns did just now.
pub struct Descent {
    code_levels: Levels,
    gradient: Vec<Lanes>,
    change: Vec<Lanes>,
    step: Vec<Lanes>,
    /// q − z of a group.
    levels: Vec<Lanes>,
    /// H (q − z), within the group.
    products: Vec<Lanes>,
}

impl Descent {
    pub fn new(grid: IntGrid, columns: usize) -> Self {
        let zeros = |n| vec![[0.0; ROWS]; n];
        let group = grid.group_len();
        Self {
            code_levels: levels(grid),
            gradient: zeros(columns),
            change: zeros(BLOCK),
            step: zeros(BLOCK),
            levels: zeros(group),
            products: zeros(group),
        }
    }

    /// Improves the tile under `hessian` (`[columns, columns]`, symmetric, with a positive diagonal), `passes` times over all
    /// columns.
    #[inline(always)]
    pub fn run(&mut self, tile: &mut IntTile, hessian: &[f32], passes: usize) {
        let (columns, len) = (tile.weights.len(), tile.grid.group_len());
        self.gradient.fill([0.0; ROWS]);
        accumulate(&mut self.gradient, hessian, columns, 0, 0, &tile.errors);
        for _ in 0..passes {
            for first in (0..columns).step_by(BLOCK) {
                let width = BLOCK.min(columns - first);
                self.change[..width].fill([0.0; ROWS]);
                for begin in (first..first + width).step_by(STEP) {
                    let members = begin..(begin + STEP).min(first + width);
                    self.choose_codes(tile, hessian, members, first..first + width);
                }
                if tile.steps.len() > 1 {
                    for group in first / len..(first + width) / len {
                        self.refit_group(tile, hessian, group, first..first + width);
                    }
                }
                let (before, rest) = self.gradient.split_at_mut(first);
                let change = &self.change[..width];
                accumulate(before, hessian, columns, first, 0, change);
                accumulate(&mut rest[width..], hessian, columns, first, first + width, change);
            }
            if tile.steps.len() == 1 {
                self.refit_row(tile, hessian);
            }
        }
    }

    /// Chooses the codes of some columns again; G is kept right in `window`.
    #[inline(always)]
    fn choose_codes(
        &mut self,
        tile: &mut IntTile,
        hessian: &[f32],
        members: Range<usize>,
        window: Range<usize>,
    ) {
        let columns = tile.weights.len();
        let mut changed = false;
        for column in members.clone() {
            let steps = &tile.steps[column / tile.grid.group_len()];
            let row = &hessian[column * columns..][..columns];
            let curvature = 1.0 / row[column];
            let gradient = &self.gradient[column];
            let free = *tile.free(column);
            let (weight, error, codes) =
                (&tile.weights[column], &mut tile.errors[column], &mut tile.codes[column]);
            let change = &mut self.step[column - members.start];
            for r in 0..ROWS {
                let value = (weight[r] - error[r] + gradient[r] * curvature) * free[r];
                let code = self.code_levels.nearest(value * steps.inverse[r] + steps.zero[r]);
                let new = weight[r] - steps.size[r] * (self.code_levels.level(code) - steps.zero[r]);
                change[r] = new - error[r];
                error[r] = new;
                codes[r] = code;
            }
            if change.iter().any(|c| *c != 0.0) {
                changed = true;
                let change = *change;
                for (gradient, h) in self.gradient[members.clone()].iter_mut().zip(&row[members.clone()]) {
                    for r in 0..ROWS {
                        gradient[r] += change[r] * h;
                    }
                }
            }
        }
        if changed {
            self.tell(hessian, columns, members.clone(), window.start..members.start);
            self.tell(hessian, columns, members.clone(), members.end..window.end);
            self.note(members, window);
        }
    }

    /// Chooses the scale of a group inside `window` again, for the codes as they are.
    #[inline(always)]
    fn refit_group(&mut self, tile: &mut IntTile, hessian: &[f32], group: usize, window: Range<usize>) {
        let (columns, len) = (tile.weights.len(), tile.grid.group_len());
        let by = self.refit(tile, hessian, group);
        let members = group * len..(group + 1) * len;
        for ((error, change), level) in
            tile.errors[members.clone()].iter_mut().zip(&mut self.step).zip(&self.levels)
        {
            for r in 0..ROWS {
                change[r] = -by[r] * level[r];
                error[r] += change[r];
            }
        }
        self.tell(hessian, columns, members.clone(), window.clone());
        self.note(members, window);
    }

    /// The same where a row has one scale: G changes everywhere, by products that are there already.
    #[inline(always)]
    fn refit_row(&mut self, tile: &mut IntTile, hessian: &[f32]) {
        let by = self.refit(tile, hessian, 0);
        for k in 0..tile.weights.len() {
            for r in 0..ROWS {
                tile.errors[k][r] -= by[r] * self.levels[k][r];
                self.gradient[k][r] -= by[r] * self.products[k][r];
            }
        }
    }

    /// Sets the scale of a group where that gains something; what it grew by.
    #[inline(always)]
    fn refit(&mut self, tile: &mut IntTile, hessian: &[f32], group: usize) -> Lanes {
        let (columns, len) = (tile.weights.len(), tile.grid.group_len());
        let first = group * len;
        let steps = &mut tile.steps[group];
        for (level, codes) in self.levels.iter_mut().zip(&tile.codes[first..]) {
            for r in 0..ROWS {
                level[r] = self.code_levels.level(codes[r]) - steps.zero[r];
            }
        }
        self.products.fill([0.0; ROWS]);
        accumulate(&mut self.products, hessian, columns, first, first, &self.levels);
        let (mut slope, mut curvature) = ([0.0f32; ROWS], [0.0f32; ROWS]);
        for k in 0..len {
            for r in 0..ROWS {
                slope[r] += self.gradient[first + k][r] * self.levels[k][r];
                curvature[r] += self.products[k][r] * self.levels[k][r];
            }
        }
        let mut by = [0.0; ROWS];
        for r in 0..tile.rows {
            let wanted = steps.size[r] + slope[r] / curvature[r];
            if !wanted.is_finite() {
                continue; // no level but 0
            }
            let size = tile.grid.stored_scale(wanted);
            let change = size - steps.size[r];
            if change * (2.0 * slope[r] - curvature[r] * change) > 0.0 {
                by[r] = change;
                steps.size[r] = size;
                steps.inverse[r] = if size == 0.0 { 0.0 } else { 1.0 / size };
            }
        }
        by
    }

    /// Brings G of the columns `listeners` up to date with what the columns `members` changed by just now.
    #[inline(always)]
    fn tell(&mut self, hessian: &[f32], columns: usize, members: Range<usize>, listeners: Range<usize>) {
        let first = listeners.start;
        let change = &self.step[..members.len()];
        accumulate(&mut self.gradient[listeners], hessian, columns, members.start, first, change);
    }

    /// Adds it to what the values of `window` changed by.
    #[inline(always)]
    fn note(&mut self, members: Range<usize>, window: Range<usize>) {
        let sums = &mut self.change[members.start - window.start..members.end - window.start];
        for (sum, change) in sums.iter_mut().zip(&self.step) {
            for r in 0..ROWS {
                sum[r] += change[r];
            }
        }
    }
}
