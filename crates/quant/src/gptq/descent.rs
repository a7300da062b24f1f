//! Coordinate descent over codes and scales after the feedback pass: every value is chosen again with all others known.
//!
//! The feedback pass is greedy: a column cannot know what those behind it will lose. Here, with E = W − Ŵ and G = E H, the
//! best value in place of ŵ_k, all others as they are, is ŵ_k + G_k / H_kk; the level next to it never raises
//! tr(E H Eᵀ). After the codes of a block come its steps: for the codes as they are, every sub-block's size and offset by
//! least squares, as near as they can be stored, and then the factor by which all of them are best stretched.
//! Compare Behdin et al., "QuantEase", arXiv 2309.01885, which descends from plain rounding under fixed scales.

use std::ops::Range;

use slmc_gguf::blocks::{BlockFormat, Step};

use super::tile::{BLOCK, Lanes, ROWS, Tile, accumulate};

/// Columns inside which G is kept right one column at a time; divides every block length.
const STEP: usize = 32;

/// Working space of a window of columns.
pub struct Descent {
    /// G.
    gradient: Vec<Lanes>,
    /// What some of the columns changed by just now.
    step: Vec<Lanes>,
    levels: Vec<Lanes>,
    products: Vec<Lanes>,
}

impl Descent {
    pub fn new() -> Self {
        let block = || vec![[0.0; ROWS]; BLOCK];
        Self { gradient: block(), step: block(), levels: block(), products: block() }
    }

    /// Improves the tile under `hessian` (`[columns, columns]`, symmetric, with a positive diagonal), `passes` times over all
    /// columns.
    #[inline(always)]
    pub fn run<F: BlockFormat<N, BYTES>, const N: usize, const BYTES: usize>(
        &mut self,
        tile: &mut Tile<F, N, BYTES>,
        hessian: &[f32],
        passes: usize,
    ) {
        let columns = tile.weights.len();
        for _ in 0..passes {
            for first in (0..columns).step_by(BLOCK) {
                let width = BLOCK.min(columns - first);
                let gradient = &mut self.gradient[..width];
                gradient.fill([0.0; ROWS]);
                accumulate(gradient, hessian, columns, 0, first, &tile.errors);
                Window { descent: &mut *self, tile: &mut *tile, hessian, first, width }.improve();
            }
        }
    }
}

/// The columns of a tile that are at work: G is kept right within them.
struct Window<'a, F: BlockFormat<N, BYTES>, const N: usize, const BYTES: usize> {
    descent: &'a mut Descent,
    tile: &'a mut Tile<F, N, BYTES>,
    hessian: &'a [f32],
    first: usize,
    width: usize,
}

impl<F: BlockFormat<N, BYTES>, const N: usize, const BYTES: usize> Window<'_, F, N, BYTES> {
    /// All codes, then all steps.
    #[inline(always)]
    fn improve(&mut self) {
        let blocks = self.first / N..(self.first + self.width) / N;
        for block in blocks.clone() {
            self.choose_codes(block);
        }
        for block in blocks {
            for sub_block in 0..N / F::SUB_BLOCK {
                self.refit_step(block, sub_block);
            }
            self.stretch(block);
        }
    }

    /// The row of H that belongs to a column.
    #[inline(always)]
    fn hessian_row(&self, column: usize) -> &[f32] {
        let columns = self.tile.weights.len();
        &self.hessian[column * columns..][..columns]
    }

    /// Chooses the codes of one format block again.
    #[inline(always)]
    fn choose_codes(&mut self, block: usize) {
        const { assert!(N.is_multiple_of(STEP)) };
        let steps = self.tile.steps(block);
        let columns = self.tile.weights.len();
        for begin in (block * N..(block + 1) * N).step_by(STEP) {
            let members = begin..begin + STEP;
            let mut changed = false;
            for column in members.clone() {
                let s = (column - block * N) / F::SUB_BLOCK;
                let (size, offset, inverse) = (&steps.sizes[s], &steps.offsets[s], &steps.inverses[s]);
                let row = &self.hessian[column * columns..][..columns];
                let curvature = 1.0 / row[column];
                let gradient = &self.descent.gradient[column - self.first];
                let free = *self.tile.free(column);
                let (weight, error, codes) =
                    (&self.tile.weights[column], &mut self.tile.errors[column], &mut self.tile.codes[column]);
                let change = &mut self.descent.step[column - begin];
                for r in 0..ROWS {
                    let value = (weight[r] - error[r] + gradient[r] * curvature) * free[r];
                    let code = F::LEVELS.nearest((value - offset[r]) * inverse[r]);
                    let new = weight[r] - (size[r] * F::LEVELS.level(code) + offset[r]);
                    change[r] = new - error[r];
                    error[r] = new;
                    codes[r] = code;
                }
                if change.iter().any(|c| *c != 0.0) {
                    changed = true;
                    let change = self.descent.step[column - begin];
                    let gradients = &mut self.descent.gradient[begin - self.first..][..STEP];
                    for (gradient, h) in gradients.iter_mut().zip(&row[members.clone()]) {
                        for r in 0..ROWS {
                            gradient[r] += change[r] * h;
                        }
                    }
                }
            }
            if changed {
                self.tell(&members, self.first..begin);
                self.tell(&members, members.end..self.first + self.width);
            }
        }
    }

    /// Chooses the step of one sub-block again, for the codes as they are.
    #[inline(always)]
    fn refit_step(&mut self, block: usize, sub_block: usize) {
        let begin = block * N + sub_block * F::SUB_BLOCK;
        let members = begin..begin + F::SUB_BLOCK;
        // q, H q and H 1 within the sub-block
        let levels = &mut self.descent.levels[..F::SUB_BLOCK];
        for (level, codes) in levels.iter_mut().zip(&self.tile.codes[members.clone()]) {
            for r in 0..ROWS {
                level[r] = F::LEVELS.level(codes[r]);
            }
        }
        let products = &mut self.descent.products[..F::SUB_BLOCK];
        products.fill([0.0; ROWS]);
        accumulate(products, self.hessian, self.tile.weights.len(), begin, begin, levels);
        let (mut slope_size, mut slope_offset) = ([0.0f32; ROWS], [0.0f32; ROWS]);
        let (mut size_size, mut size_offset, mut offset_offset) = ([0.0f32; ROWS], [0.0f32; ROWS], 0.0f32);
        for (k, column) in members.clone().enumerate() {
            let ones: f32 = self.hessian_row(column)[members.clone()].iter().sum();
            offset_offset += ones;
            for r in 0..ROWS {
                let gradient = self.descent.gradient[column - self.first][r];
                slope_size[r] += gradient * self.descent.levels[k][r];
                slope_offset[r] += gradient;
                size_size[r] += self.descent.products[k][r] * self.descent.levels[k][r];
                size_offset[r] += ones * self.descent.levels[k][r];
            }
        }
        let (mut by_size, mut by_offset) = ([0.0f32; ROWS], [0.0f32; ROWS]);
        for r in 0..self.tile.rows {
            let scales = &mut self.tile.scales[block][r];
            let old = F::steps(scales)[sub_block];
            let determinant = size_size[r] * offset_offset - size_offset[r] * size_offset[r];
            // A format without offsets says so by −0.0.
            let has_offset = old.offset.to_bits() != (-0.0f32).to_bits();
            let (size, offset) = if has_offset && determinant > 1e-4 * size_size[r] * offset_offset {
                (
                    (slope_size[r] * offset_offset - slope_offset[r] * size_offset[r]) / determinant,
                    (slope_offset[r] * size_size[r] - slope_size[r] * size_offset[r]) / determinant,
                )
            } else {
                (slope_size[r] / size_size[r], 0.0)
            };
            if !(size.is_finite() && offset.is_finite()) {
                continue;
            }
            let before = *scales;
            F::set_step(scales, sub_block, Step { size: old.size + size, offset: old.offset + offset });
            let new = F::steps(scales)[sub_block];
            let (size, offset) = (new.size - old.size, new.offset - old.offset);
            let gain = 2.0 * (slope_size[r] * size + slope_offset[r] * offset)
                - size_size[r] * size * size
                - 2.0 * size_offset[r] * size * offset
                - offset_offset * offset * offset;
            if gain > 0.0 {
                (by_size[r], by_offset[r]) = (size, offset);
            } else {
                *scales = before;
            }
        }
        for (k, column) in members.clone().enumerate() {
            let (level, change) = (&self.descent.levels[k], &mut self.descent.step[k]);
            for r in 0..ROWS {
                change[r] = -(by_size[r] * level[r] + by_offset[r]);
                self.tile.errors[column][r] += change[r];
            }
        }
        self.tell(&members, block * N..self.first + self.width);
    }

    /// Stretches the steps of one format block.
    #[inline(always)]
    fn stretch(&mut self, block: usize) {
        let begin = block * N;
        let mut values = [[0.0; ROWS]; N];
        for (k, value) in values.iter_mut().enumerate() {
            for r in 0..ROWS {
                value[r] = self.tile.weights[begin + k][r] - self.tile.errors[begin + k][r];
            }
        }
        // H ŵ inside the block
        self.descent.products[..N].fill([0.0; ROWS]);
        let products = &mut self.descent.products[..N];
        accumulate(products, self.hessian, self.tile.weights.len(), begin, begin, &values);
        let (mut slope, mut curvature) = ([0.0f32; ROWS], [0.0f32; ROWS]);
        for k in 0..N {
            for r in 0..ROWS {
                slope[r] += self.descent.gradient[begin - self.first + k][r] * values[k][r];
                curvature[r] += self.descent.products[k][r] * values[k][r];
            }
        }
        for r in 0..self.tile.rows {
            let factor = 1.0 + slope[r] / curvature[r];
            if factor.is_finite() && factor > 0.5 && factor < 2.0 {
                F::stretch(&mut self.tile.scales[block][r], factor);
            }
        }
        let steps = self.tile.steps(block);
        for k in 0..N {
            let column = begin + k;
            let s = k / F::SUB_BLOCK;
            let (size, offset) = (&steps.sizes[s], &steps.offsets[s]);
            let (weight, error, codes) =
                (&self.tile.weights[column], &mut self.tile.errors[column], &self.tile.codes[column]);
            let change = &mut self.descent.step[k];
            *change = [0.0; ROWS];
            for r in 0..self.tile.rows {
                let new = weight[r] - (size[r] * F::LEVELS.level(codes[r]) + offset[r]);
                change[r] = new - error[r];
                error[r] = new;
            }
        }
        self.tell(&(begin..begin + N), begin + N..self.first + self.width);
    }

    /// Brings G of the columns `listeners` up to date with what the columns `members` changed by just now.
    #[inline(always)]
    fn tell(&mut self, members: &Range<usize>, listeners: Range<usize>) {
        let (columns, begin) = (self.tile.weights.len(), listeners.start);
        let gradient = &mut self.descent.gradient[begin - self.first..listeners.end - self.first];
        let change = &self.descent.step[..members.len()];
        accumulate(gradient, self.hessian, columns, members.start, begin, change);
    }
}
