//! The mixed second moment matrix of two activations of the same tokens: 2/n · Σ a bᵀ.

use slmc_matmul::Precision;

use super::check;
use super::product::{Activations, TILE, Tile, add_products};
use crate::CalibrationError;

/// 2/n · Σ a bᵀ over n tokens, `[a's width, b's width]`; the sums in f64.
#[derive(Clone, Debug)]
pub struct CrossMoment {
    input: String,
    widths: [usize; 2],
    tokens: u64,
    precision: Precision,
    tiles: Vec<Tile>,
    /// The tiles' sums, one tile behind the other.
    sums: Vec<f64>,
}

impl CrossMoment {
    /// A collector of nothing yet, for activations of the given widths; `input` is what errors call them.
    pub fn new(input: impl Into<String>, widths: [usize; 2]) -> Self {
        let [a, b] = widths;
        let (mut tiles, mut at) = (Vec::new(), 0);
        for first_row in (0..a).step_by(TILE) {
            for first_column in (0..b).step_by(TILE) {
                let (rows, columns) = (TILE.min(a - first_row), TILE.min(b - first_column));
                tiles.push(Tile { first_row, rows, first_column, columns, at });
                at += rows * columns;
            }
        }
        Self { input: input.into(), widths, tokens: 0, precision: Precision::F32, tiles, sums: vec![0.0; at] }
    }

    /// With the activations rounded to this before they are multiplied.
    #[must_use]
    pub fn in_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// Adds activations `a` (`[tokens, widths[0]]`) and `b` (`[tokens, widths[1]]`) of the same tokens.
    ///
    /// # Errors
    /// Values that do not make whole rows, or as many of one as of the other; NaN or infinity. Nothing is added then.
    pub fn add(&mut self, a: &[f32], b: &[f32]) -> Result<(), CalibrationError> {
        let [width_a, width_b] = self.widths;
        let tokens = check(&self.input, width_a, self.tokens, a)?;
        if check(&self.input, width_b, self.tokens, b)? != tokens {
            let (input, d_in, found) = (self.input.clone(), tokens * width_b, b.len());
            return Err(CalibrationError::ActivationShape { input, d_in, found });
        }
        let (a, b) = (Activations { values: a, width: width_a }, Activations { values: b, width: width_b });
        add_products(self.precision, &self.tiles, &mut self.sums, a, b);
        self.tokens += tokens as u64;
        Ok(())
    }

    /// Tokens seen.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// The matrix, `[widths[0], widths[1]]`, row-major; zeros before the first token.
    pub fn matrix(&self) -> Vec<f32> {
        let [a, b] = self.widths;
        let factor = 2.0 / self.tokens.max(1) as f64;
        let mut matrix = vec![0.0f32; a * b];
        for tile in &self.tiles {
            for (r, sums) in tile.of(&self.sums).chunks_exact(tile.columns).enumerate() {
                let begin = (tile.first_row + r) * b + tile.first_column;
                let row = &mut matrix[begin..begin + tile.columns];
                row.iter_mut().zip(sums).for_each(|(value, sum)| *value = (sum * factor) as f32);
            }
        }
        matrix
    }
}
