//! The second moment matrix of a linear input: H = 2/n · Σ x xᵀ.

use slmc_matmul::Precision;

use super::check;
use super::product::{Activations, TILE, Tile, add_products};
use crate::CalibrationError;

/// H = 2/n · Σ x xᵀ over n tokens, the Hessian of ‖(W − Ŵ)X‖² for one row of W up to the factor n
/// (Frantar et al., "GPTQ", section 3).
///
/// Only tiles on and below the diagonal are kept, in f64: 4·d² bytes for d columns, in one piece, so that the allocator can
/// give them back.
#[derive(Clone, Debug)]
pub struct SecondMoment {
    input: String,
    d_in: usize,
    tokens: u64,
    precision: Precision,
    tiles: Vec<Tile>,
    /// The tiles' sums, one tile behind the other.
    sums: Vec<f64>,
}

impl SecondMoment {
    /// A collector of nothing yet, for an input of `d_in` columns; `input` is what errors call it.
    pub fn new(input: impl Into<String>, d_in: usize) -> Self {
        let (mut tiles, mut at) = (Vec::new(), 0);
        for first_row in (0..d_in).step_by(TILE) {
            for first_column in (0..=first_row).step_by(TILE) {
                let (rows, columns) = (TILE.min(d_in - first_row), TILE.min(d_in - first_column));
                tiles.push(Tile { first_row, rows, first_column, columns, at });
                at += rows * columns;
            }
        }
        Self { input: input.into(), d_in, tokens: 0, precision: Precision::F32, tiles, sums: vec![0.0; at] }
    }

    /// With the activations rounded to this before they are multiplied.
    #[must_use]
    pub fn in_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// Adds activations `[tokens, d_in]`.
    ///
    /// # Errors
    /// Values that do not make whole rows; NaN or infinity. Nothing is added then.
    pub fn add(&mut self, x: &[f32]) -> Result<(), CalibrationError> {
        let tokens = check(&self.input, self.d_in, self.tokens, x)?;
        let x = Activations { values: x, width: self.d_in };
        add_products(self.precision, &self.tiles, &mut self.sums, x, x);
        self.tokens += tokens as u64;
        Ok(())
    }

    /// Adds what another collector of the same input has seen.
    ///
    /// # Errors
    /// Another number of columns.
    pub fn merge(&mut self, other: &Self) -> Result<(), CalibrationError> {
        if self.d_in != other.d_in {
            return Err(CalibrationError::ActivationShape {
                input: self.input.clone(),
                d_in: self.d_in,
                found: other.d_in,
            });
        }
        self.sums.iter_mut().zip(&other.sums).for_each(|(sum, other)| *sum += other);
        self.tokens += other.tokens;
        Ok(())
    }

    /// Bytes of the sums of `d_in` columns, about: those of the tiles on the diagonal are there whole.
    pub fn bytes(d_in: u64) -> u64 {
        4 * d_in * (d_in + TILE as u64)
    }

    /// Columns.
    pub fn d_in(&self) -> usize {
        self.d_in
    }

    /// Tokens seen.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// H, `[d_in, d_in]`, symmetric; zeros before the first token.
    pub fn hessian(&self) -> Vec<f32> {
        let d_in = self.d_in;
        let factor = 2.0 / self.tokens.max(1) as f64;
        let mut hessian = vec![0.0f32; d_in * d_in];
        for tile in &self.tiles {
            for (r, sums) in tile.of(&self.sums).chunks_exact(tile.columns).enumerate() {
                let row = tile.first_row + r;
                for (c, &sum) in sums.iter().enumerate() {
                    let column = tile.first_column + c;
                    // Within a tile on the diagonal both halves are there; one decides, so that H is exactly
                    // symmetric.
                    if column <= row {
                        let value = (sum * factor) as f32;
                        hessian[row * d_in + column] = value;
                        hessian[column * d_in + row] = value;
                    }
                }
            }
        }
        hessian
    }

    /// The diagonal of H: 2·E\[x²\] of every column; zeros before the first token.
    pub fn diagonal(&self) -> Vec<f64> {
        let factor = 2.0 / self.tokens.max(1) as f64;
        let on_diagonal = self.tiles.iter().filter(|tile| tile.first_row == tile.first_column);
        on_diagonal
            .flat_map(|tile| (0..tile.rows).map(move |n| tile.of(&self.sums)[n * tile.columns + n] * factor))
            .collect()
    }
}
