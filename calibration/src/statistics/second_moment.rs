//! The second moment matrix of a linear input: H = 2/n · Σ x xᵀ.

use gemm::Parallelism;
use rayon::prelude::*;

use super::check;
use crate::CalibrationError;

/// Rows and columns of a tile.
const TILE: usize = 256;

/// Tokens whose products are summed in f32, inside one matrix product, before they go into the f64 sums.
const TOKENS: usize = 1024;

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
    tiles: Vec<Tile>,
    /// The tiles' sums, one tile behind the other.
    sums: Vec<f64>,
}

/// Σ x\[rows\] x\[columns\]ᵀ, row-major.
#[derive(Clone, Copy, Debug)]
struct Tile {
    first_row: usize,
    rows: usize,
    first_column: usize,
    columns: usize,
    /// Where its sums begin.
    at: usize,
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
        Self { input: input.into(), d_in, tokens: 0, tiles, sums: vec![0.0; at] }
    }

    /// Adds activations `[tokens, d_in]`.
    ///
    /// # Errors
    /// Values that do not make whole rows; NaN or infinity. Nothing is added then.
    pub fn add(&mut self, x: &[f32]) -> Result<(), CalibrationError> {
        let tokens = check(&self.input, self.d_in, self.tokens, x)?;
        let d_in = self.d_in;
        // One tile is one task, computed by one thread: the order of its sums does not depend on how many
        // threads there are.
        let mut rest = self.sums.as_mut_slice();
        let each = |tile| {
            let (sums, behind) = std::mem::take(&mut rest).split_at_mut(Tile::len(tile));
            rest = behind;
            (tile, sums)
        };
        let tiles: Vec<(&Tile, &mut [f64])> = self.tiles.iter().map(each).collect();
        tiles.into_par_iter().for_each_init(Vec::new, |product, (tile, sums)| {
            x.chunks(TOKENS * d_in).for_each(|chunk| tile.add(chunk, d_in, product, sums));
        });
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

impl Tile {
    fn len(&self) -> usize {
        self.rows * self.columns
    }

    /// Its part of all sums.
    fn of<'a>(&self, sums: &'a [f64]) -> &'a [f64] {
        &sums[self.at..][..self.len()]
    }

    /// Adds the products of some tokens to the tile's sums; `product` is room for them.
    fn add(&self, x: &[f32], d_in: usize, product: &mut Vec<f32>, sums: &mut [f64]) {
        let tokens = x.len() / d_in;
        product.resize(self.len(), 0.0);
        assert!(self.first_row + self.rows <= d_in && self.first_column + self.columns <= d_in);
        // SAFETY: `product` holds rows · columns values, row-major. Element (i, t) of the left factor is
        // x[t · d_in + first_row + i], element (t, j) of the right one x[t · d_in + first_column + j], with
        // t < tokens; both lie within `x` by the assertion and the definition of `tokens`.
        unsafe {
            gemm::gemm(
                self.rows,
                self.columns,
                tokens,
                product.as_mut_ptr(),
                1,
                self.columns as isize,
                false,
                x.as_ptr().add(self.first_row),
                d_in as isize,
                1,
                x.as_ptr().add(self.first_column),
                1,
                d_in as isize,
                0.0,
                1.0,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
        sums.iter_mut().zip(product.iter()).for_each(|(sum, &value)| *sum += f64::from(value));
    }
}
