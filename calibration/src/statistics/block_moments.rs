//! Second moment matrices of runs of neighbouring columns: E[x xᵀ], the blocks on the diagonal alone.

use slmc_matmul::Precision;

use super::check;
use super::product::{Activations, Tile, add_products};
use crate::CalibrationError;

/// Σ x xᵀ over tokens for each run of `len` columns, in f64: 8·d·len bytes for d columns.
#[derive(Clone, Debug)]
pub struct BlockMoments {
    input: String,
    d_in: usize,
    tokens: u64,
    tiles: Vec<Tile>,
    sums: Vec<f64>,
}

impl BlockMoments {
    /// A collector of nothing yet, for an input of `d_in` columns in runs of `len`; `input` is what errors call it.
    ///
    /// # Panics
    /// If runs do not divide the columns.
    pub fn new(input: impl Into<String>, d_in: usize, len: usize) -> Self {
        assert!(d_in.is_multiple_of(len), "{d_in} columns in runs of {len}");
        let tile = |run: usize| {
            let first = run * len;
            Tile { first_row: first, rows: len, first_column: first, columns: len, at: first * len }
        };
        let tiles = (0..d_in / len).map(tile).collect();
        Self { input: input.into(), d_in, tokens: 0, tiles, sums: vec![0.0; d_in * len] }
    }

    /// Adds activations `[tokens, d_in]`.
    ///
    /// # Errors
    /// Values that do not make whole rows; NaN or infinity. Nothing is added then.
    pub fn add(&mut self, x: &[f32]) -> Result<(), CalibrationError> {
        let tokens = check(&self.input, self.d_in, self.tokens, x)?;
        let x = Activations { values: x, width: self.d_in };
        add_products(Precision::F32, &self.tiles, &mut self.sums, x, x);
        self.tokens += tokens as u64;
        Ok(())
    }

    /// E\[x xᵀ\] of every run, `[d_in / len, len, len]`, each symmetric; zeros before the first token.
    pub fn means(&self) -> Vec<f32> {
        let tokens = self.tokens.max(1) as f64;
        let mut means: Vec<f32> = self.sums.iter().map(|sum| (sum / tokens) as f32).collect();
        for tile in &self.tiles {
            let len = tile.rows;
            let matrix = &mut means[tile.at..][..len * len];
            for row in 0..len {
                for column in 0..row {
                    matrix[column * len + row] = matrix[row * len + column];
                }
            }
        }
        means
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_the_diagonal_of_the_whole_matrix() {
        const D_IN: usize = 96;
        let x: Vec<f32> =
            (0..D_IN * 50).map(|i| ((i * 37 + i / D_IN * 11) % 23) as f32 / 7.0 - 1.5).collect();
        let mut whole = super::super::SecondMoment::new("x", D_IN);
        let mut runs = BlockMoments::new("x", D_IN, 32);
        for part in x.chunks(D_IN * 20) {
            whole.add(part).unwrap();
            runs.add(part).unwrap();
        }
        let (hessian, means) = (whole.hessian(), runs.means());
        for (run, matrix) in means.chunks_exact(32 * 32).enumerate() {
            for (at, value) in matrix.iter().enumerate() {
                let (row, column) = (run * 32 + at / 32, run * 32 + at % 32);
                let expected = hessian[row * D_IN + column] / 2.0;
                assert!((value - expected).abs() < 1e-5, "{row}, {column}: {value}, not {expected}");
                assert_eq!(*value, matrix[at % 32 * 32 + at / 32]);
            }
        }
        assert!(runs.add(&[f32::NAN; D_IN]).is_err());
    }
}
