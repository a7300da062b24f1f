//! The pass over the columns that feeds errors forward.

use slmc_gguf::blocks::{BlockFormat, Importance};

use super::FeedbackFactor;
use super::tile::{BLOCK, Lanes, ROWS, Tile, accumulate, hold};

/// Columns inside which errors are fed forward one column at a time; divides every block length.
const STEP: usize = 32;

/// Working space of the pass.
pub struct Targets<const N: usize> {
    /// Targets of `BLOCK` columns.
    lanes: Vec<Lanes>,
    /// One format block of each row.
    block: Vec<[f32; N]>,
}

impl<const N: usize> Targets<N> {
    pub fn new() -> Self {
        Self { lanes: vec![[0.0; ROWS]; BLOCK], block: vec![[0.0; N]; ROWS] }
    }

    /// Chooses the tile's scales, codes and errors.
    #[inline(always)]
    pub fn round<F: BlockFormat<N, BYTES>, const BYTES: usize>(
        &mut self,
        tile: &mut Tile<F, N, BYTES>,
        factor: &FeedbackFactor,
    ) {
        const { assert!(BLOCK.is_multiple_of(N) && N.is_multiple_of(STEP)) };
        let columns = factor.columns();
        for first in (0..columns).step_by(BLOCK) {
            let width = BLOCK.min(columns - first);
            self.lanes[..width].copy_from_slice(&tile.weights[first..first + width]);
            self.feed(factor, &tile.errors, 0..first, first, 0..width);
            for at in (0..width).step_by(N) {
                self.round_block(tile, factor, first, at, width);
            }
        }
    }

    /// Rounds the format block at `first + at`, and feeds its errors to the rest of the `width` columns from `first` on.
    #[inline(always)]
    fn round_block<F: BlockFormat<N, BYTES>, const BYTES: usize>(
        &mut self,
        tile: &mut Tile<F, N, BYTES>,
        factor: &FeedbackFactor,
        first: usize,
        at: usize,
        width: usize,
    ) {
        let begin = first + at;
        for (k, lanes) in self.lanes[at..at + N].iter_mut().enumerate() {
            hold(lanes, tile.free(begin + k));
        }
        for (r, row) in self.block[..tile.rows].iter_mut().enumerate() {
            for (value, lanes) in row.iter_mut().zip(&self.lanes[at..at + N]) {
                *value = lanes[r];
            }
        }
        let importance = factor.diagonal()[begin..begin + N].as_chunks::<N>().0;
        let scales = &mut tile.scales[begin / N][..tile.rows];
        F::fit(&self.block[..tile.rows], Importance::of_row(importance), scales);
        let steps = tile.steps(begin / N);
        for group in (0..N).step_by(STEP) {
            for k in group..group + STEP {
                let (s, column) = (k / F::SUB_BLOCK, begin + k);
                hold(&mut self.lanes[at + k], tile.free(column));
                let (size, offset, inverse) = (&steps.sizes[s], &steps.offsets[s], &steps.inverses[s]);
                let (target, weight) = (&self.lanes[at + k], &tile.weights[column]);
                let (codes, error) = (&mut tile.codes[column], &mut tile.errors[column]);
                for r in 0..ROWS {
                    codes[r] = F::LEVELS.nearest((target[r] - offset[r]) * inverse[r]);
                    error[r] = weight[r] - (size[r] * F::LEVELS.level(codes[r]) + offset[r]);
                }
                let coefficients = &factor.upper()[column * factor.columns() + column + 1..];
                let later = &mut self.lanes[at + k + 1..at + group + STEP];
                for (target, u) in later.iter_mut().zip(coefficients) {
                    for r in 0..ROWS {
                        target[r] += error[r] * u;
                    }
                }
            }
            let done = begin + group..begin + group + STEP;
            self.feed(factor, &tile.errors, done, first, at + group + STEP..width);
        }
    }

    /// Adds to the targets `to` (counted from column `first`) what the errors of columns `from` are worth there.
    fn feed(
        &mut self,
        factor: &FeedbackFactor,
        errors: &[Lanes],
        from: std::ops::Range<usize>,
        first: usize,
        to: std::ops::Range<usize>,
    ) {
        let column = first + to.start;
        accumulate(&mut self.lanes[to], factor.upper(), factor.columns(), from.start, column, &errors[from]);
    }
}
