//! Coordinate descent over codes and scales after the feedback pass: every value is chosen again with all others known.
//!
//! The feedback pass is greedy: a column cannot know what those behind it will lose. Here, with E = W − Ŵ and G = E H, the
//! best value in place of ŵ_k, all others as they are, is ŵ_k + G_k / H_kk; the level next to it never raises
//! tr(E H Eᵀ). After each pass over the codes every format block's steps are stretched by the factor that lowers it most.
//! Compare Behdin et al., "QuantEase", arXiv 2309.01885, which descends from plain rounding under fixed scales.

use slmc_gguf::blocks::BlockFormat;

use super::product::accumulate;
use super::tile::{BLOCK, Lanes, ROWS, Tile};

/// Working space: G = E H of all columns, and what a block's values changed by.
pub struct Descent {
    gradient: Vec<Lanes>,
    change: Vec<Lanes>,
    products: Vec<Lanes>,
}

impl Descent {
    pub fn new(columns: usize) -> Self {
        let block = || vec![[0.0; ROWS]; BLOCK];
        Self { gradient: vec![[0.0; ROWS]; columns], change: block(), products: block() }
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
        self.gradient.fill([0.0; ROWS]);
        accumulate(&mut self.gradient, hessian, columns, 0, 0, &tile.errors);
        for _ in 0..passes {
            for first in (0..columns).step_by(BLOCK) {
                let width = BLOCK.min(columns - first);
                self.change[..width].fill([0.0; ROWS]);
                for block in first / N..(first + width) / N {
                    self.choose_codes(tile, hessian, block, first, width);
                }
                for block in first / N..(first + width) / N {
                    self.stretch(tile, hessian, block, first, width);
                }
                let (before, rest) = self.gradient.split_at_mut(first);
                let change = &self.change[..width];
                accumulate(before, hessian, columns, first, 0, change);
                accumulate(&mut rest[width..], hessian, columns, first, first + width, change);
            }
        }
    }

    /// Chooses the codes of one format block again; keeps G right within the columns from `first`.
    #[inline(always)]
    fn choose_codes<F: BlockFormat<N, BYTES>, const N: usize, const BYTES: usize>(
        &mut self,
        tile: &mut Tile<F, N, BYTES>,
        hessian: &[f32],
        block: usize,
        first: usize,
        width: usize,
    ) {
        let columns = tile.weights.len();
        let steps = tile.steps(block);
        for k in 0..N {
            let column = block * N + k;
            let s = k / F::SUB_BLOCK;
            let (size, offset, inverse) = (&steps.sizes[s], &steps.offsets[s], &steps.inverses[s]);
            let row = &hessian[column * columns..][..columns];
            let curvature = 1.0 / row[column];
            let gradient = &self.gradient[column];
            let (weight, error, codes) =
                (&tile.weights[column], &mut tile.errors[column], &mut tile.codes[column]);
            let mut change = [0.0; ROWS];
            for r in 0..ROWS {
                let value = weight[r] - error[r] + gradient[r] * curvature;
                let code = F::LEVELS.nearest((value - offset[r]) * inverse[r]);
                let new = weight[r] - (size[r] * F::LEVELS.level(code) + offset[r]);
                change[r] = new - error[r];
                error[r] = new;
                codes[r] = code;
            }
            if change.iter().any(|c| *c != 0.0) {
                self.add(row, column, &change, first, width);
            }
        }
    }

    /// Stretches the steps of one format block.
    #[inline(always)]
    fn stretch<F: BlockFormat<N, BYTES>, const N: usize, const BYTES: usize>(
        &mut self,
        tile: &mut Tile<F, N, BYTES>,
        hessian: &[f32],
        block: usize,
        first: usize,
        width: usize,
    ) {
        let columns = tile.weights.len();
        let begin = block * N;
        let mut values = [[0.0; ROWS]; N];
        for (k, value) in values.iter_mut().enumerate() {
            for r in 0..ROWS {
                value[r] = tile.weights[begin + k][r] - tile.errors[begin + k][r];
            }
        }
        // H ŵ inside the block
        self.products[..N].fill([0.0; ROWS]);
        accumulate(&mut self.products[..N], hessian, columns, begin, begin, &values);
        let (mut slope, mut curvature) = ([0.0f32; ROWS], [0.0f32; ROWS]);
        for k in 0..N {
            for r in 0..ROWS {
                slope[r] += self.gradient[begin + k][r] * values[k][r];
                curvature[r] += self.products[k][r] * values[k][r];
            }
        }
        for r in 0..tile.rows {
            let factor = 1.0 + slope[r] / curvature[r];
            if factor.is_finite() && factor > 0.5 && factor < 2.0 {
                F::stretch(&mut tile.scales[block][r], factor);
            }
        }
        let steps = tile.steps(block);
        for k in 0..N {
            let column = begin + k;
            let s = k / F::SUB_BLOCK;
            let (size, offset) = (&steps.sizes[s], &steps.offsets[s]);
            let (weight, error, codes) =
                (&tile.weights[column], &mut tile.errors[column], &tile.codes[column]);
            let mut change = [0.0; ROWS];
            for r in 0..tile.rows {
                let new = weight[r] - (size[r] * F::LEVELS.level(codes[r]) + offset[r]);
                change[r] = new - error[r];
                error[r] = new;
            }
            self.add(&hessian[column * columns..][..columns], column, &change, first, width);
        }
    }

    /// Notes that a column's error changed, here and in G of the columns from `first`.
    #[inline(always)]
    fn add(&mut self, row: &[f32], column: usize, change: &Lanes, first: usize, width: usize) {
        let gradients = self.gradient[first..first + width].iter_mut();
        for (gradient, h) in gradients.zip(&row[first..first + width]) {
            for r in 0..ROWS {
                gradient[r] += change[r] * h;
            }
        }
        for (sum, c) in self.change[column - first].iter_mut().zip(change) {
            *sum += c;
        }
    }
}
