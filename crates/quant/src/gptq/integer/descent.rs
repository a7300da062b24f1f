//! Coordinate descent over codes and scales after the feedback pass, as [`super::super::descent`] does it for block formats.
//!
//! With E = W − Ŵ and G = E H, the best value in place of ŵ_k, all others as they are, is ŵ_k + G_k / H_kk. For given codes
//! with levels q − z, a group's best scale is larger by Σ G (q − z) / (q − z)ᵀ H (q − z), sums over the group.

use std::ops::Range;

use slmc_gguf::blocks::Levels;

use super::tile::IntTile;
use crate::gptq::tile::{Lanes, ROWS, accumulate};
use crate::int::IntGrid;
use crate::int::tile::levels;

/// Columns inside which G is kept right; a multiple of every group that is shorter than a row.
const WINDOW: usize = 128;

/// Columns inside which it is kept right one column at a time; divides every group that is shorter than a row.
const STEP: usize = 32;

/// Working space.
pub struct Descent {
    code_levels: Levels,
    /// G of the columns of a window.
    gradient: Vec<Lanes>,
    /// What some of them changed by just now.
    step: Vec<Lanes>,
    /// q − z of a group.
    levels: Vec<Lanes>,
    /// H (q − z), within the group.
    products: Vec<Lanes>,
}

impl Descent {
    pub fn new(grid: IntGrid) -> Self {
        let zeros = |n| vec![[0.0; ROWS]; n];
        let group = grid.group_len();
        Self {
            code_levels: levels(grid),
            gradient: zeros(WINDOW),
            step: zeros(WINDOW),
            levels: zeros(group),
            products: zeros(group),
        }
    }

    /// Improves the tile under `hessian` (`[columns, columns]`, symmetric, with a positive diagonal), `passes` times over all
    /// columns.
    #[inline(always)]
    pub fn run(&mut self, tile: &mut IntTile, hessian: &[f32], passes: usize) {
        let (columns, len) = (tile.weights.len(), tile.grid.group_len());
        let one_scale = tile.steps.len() == 1;
        for _ in 0..passes {
            for first in (0..columns).step_by(WINDOW) {
                let window = first..columns.min(first + WINDOW);
                let gradient = &mut self.gradient[..window.len()];
                gradient.fill([0.0; ROWS]);
                accumulate(gradient, hessian, columns, 0, first, &tile.errors);
                for begin in window.clone().step_by(STEP) {
                    self.choose_codes(tile, hessian, begin..window.end.min(begin + STEP), &window);
                }
                if !one_scale {
                    for group in first / len..window.end / len {
                        self.refit_group(tile, hessian, group, &window);
                    }
                }
            }
            if one_scale {
                self.refit_row(tile, hessian);
            }
        }
    }

    /// Chooses the codes of some columns of `window` again.
    #[inline(always)]
    fn choose_codes(
        &mut self,
        tile: &mut IntTile,
        hessian: &[f32],
        members: Range<usize>,
        window: &Range<usize>,
    ) {
        let columns = tile.weights.len();
        let own = members.start - window.start..members.end - window.start;
        let mut changed = false;
        for column in members.clone() {
            let steps = &tile.steps[column / tile.grid.group_len()];
            let row = &hessian[column * columns..][..columns];
            let curvature = 1.0 / row[column];
            let gradient = &self.gradient[column - window.start];
            let (levels, free) = (self.code_levels, *tile.free(column));
            let (weight, error, codes) =
                (&tile.weights[column], &mut tile.errors[column], &mut tile.codes[column]);
            let change = &mut self.step[column - members.start];
            for r in 0..ROWS {
                let value = (weight[r] - error[r] + gradient[r] * curvature) * free[r];
                let code = levels.nearest(value * steps.inverse[r] + steps.zero[r]);
                let new = weight[r] - steps.size[r] * (levels.level(code) - steps.zero[r]);
                change[r] = new - error[r];
                error[r] = new;
                codes[r] = code;
            }
            if change.iter().any(|c| *c != 0.0) {
                changed = true;
                let change = *change;
                for (gradient, h) in self.gradient[own.clone()].iter_mut().zip(&row[members.clone()]) {
                    for r in 0..ROWS {
                        gradient[r] += change[r] * h;
                    }
                }
            }
        }
        if changed {
            self.tell(hessian, columns, &members, window.start..members.start, window);
            self.tell(hessian, columns, &members, members.end..window.end, window);
        }
    }

    /// Chooses the scale of a group of `window` again, for the codes as they are.
    #[inline(always)]
    fn refit_group(&mut self, tile: &mut IntTile, hessian: &[f32], group: usize, window: &Range<usize>) {
        let (columns, len) = (tile.weights.len(), tile.grid.group_len());
        let members = group * len..(group + 1) * len;
        self.multiply_levels(tile, hessian, group);
        let mut slope = [0.0f32; ROWS];
        for (level, gradient) in self.levels.iter().zip(&self.gradient[members.start - window.start..]) {
            for r in 0..ROWS {
                slope[r] += gradient[r] * level[r];
            }
        }
        let by = self.refit(tile, group, &slope);
        for ((error, change), level) in
            tile.errors[members.clone()].iter_mut().zip(&mut self.step).zip(&self.levels)
        {
            for r in 0..ROWS {
                change[r] = -by[r] * level[r];
                error[r] += change[r];
            }
        }
        self.tell(hessian, columns, &members, members.end..window.end, window);
    }

    /// The same where a row has one scale. Its slope needs no gradient: Σ G (q − z) = Σ E H (q − z), sums over the row.
    #[inline(always)]
    fn refit_row(&mut self, tile: &mut IntTile, hessian: &[f32]) {
        self.multiply_levels(tile, hessian, 0);
        let mut slope = [0.0f32; ROWS];
        for (error, product) in tile.errors.iter().zip(&self.products) {
            for r in 0..ROWS {
                slope[r] += error[r] * product[r];
            }
        }
        let by = self.refit(tile, 0, &slope);
        for (error, level) in tile.errors.iter_mut().zip(&self.levels) {
            for r in 0..ROWS {
                error[r] -= by[r] * level[r];
            }
        }
    }

    /// q − z of a group and H (q − z) within it.
    #[inline(always)]
    fn multiply_levels(&mut self, tile: &IntTile, hessian: &[f32], group: usize) {
        let (columns, first) = (tile.weights.len(), group * tile.grid.group_len());
        let (code_levels, steps) = (self.code_levels, &tile.steps[group]);
        for (level, codes) in self.levels.iter_mut().zip(&tile.codes[first..]) {
            for r in 0..ROWS {
                level[r] = code_levels.level(codes[r]) - steps.zero[r];
            }
        }
        self.products.fill([0.0; ROWS]);
        accumulate(&mut self.products, hessian, columns, first, first, &self.levels);
    }

    /// Sets the scale of a group, of which `slope` is Σ G (q − z), where that gains something; what it grew by.
    #[inline(always)]
    fn refit(&self, tile: &mut IntTile, group: usize, slope: &Lanes) -> Lanes {
        let steps = &mut tile.steps[group];
        let mut curvature = [0.0f32; ROWS];
        for (level, product) in self.levels.iter().zip(&self.products) {
            for r in 0..ROWS {
                curvature[r] += product[r] * level[r];
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

    /// Brings G of the columns `listeners` of `window` up to date with what the columns `members` changed by just now.
    #[inline(always)]
    fn tell(
        &mut self,
        hessian: &[f32],
        columns: usize,
        members: &Range<usize>,
        listeners: Range<usize>,
        window: &Range<usize>,
    ) {
        let gradient = &mut self.gradient[listeners.start - window.start..listeners.end - window.start];
        accumulate(gradient, hessian, columns, members.start, listeners.start, &self.step[..members.len()]);
    }
}
