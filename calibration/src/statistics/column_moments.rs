//! Per column of a linear input: Σx, Σ|x|, Σx², max|x|.

use rayon::prelude::*;

use super::check;
use crate::CalibrationError;

/// Columns one task goes through: its sums stay in the first-level cache.
const COLUMNS: usize = 512;

/// Sums over tokens for each of `d_in` columns.
///
/// AWQ takes its scales from E|x| (Lin et al., "AWQ", section 3.2); llama.cpp's importance matrix is E\[x²\].
#[derive(Clone, Debug)]
pub struct ColumnMoments {
    input: String,
    d_in: usize,
    tokens: u64,
    blocks: Vec<Block>,
}

/// The sums of up to [`COLUMNS`] neighbouring columns.
#[derive(Clone, Debug)]
struct Block {
    sum: Vec<f64>,
    sum_abs: Vec<f64>,
    sum_squares: Vec<f64>,
    max_abs: Vec<f32>,
}

impl ColumnMoments {
    /// A collector of nothing yet, for an input of `d_in` columns; `input` is what errors call it.
    pub fn new(input: impl Into<String>, d_in: usize) -> Self {
        let block = |first: usize| {
            let columns = COLUMNS.min(d_in - first);
            Block {
                sum: vec![0.0; columns],
                sum_abs: vec![0.0; columns],
                sum_squares: vec![0.0; columns],
                max_abs: vec![0.0; columns],
            }
        };
        Self { input: input.into(), d_in, tokens: 0, blocks: (0..d_in).step_by(COLUMNS).map(block).collect() }
    }

    /// Adds activations `[tokens, d_in]`.
    ///
    /// # Errors
    /// Values that do not make whole rows; NaN or infinity. Nothing is added then.
    pub fn add(&mut self, x: &[f32]) -> Result<(), CalibrationError> {
        let tokens = check(&self.input, self.d_in, self.tokens, x)?;
        let d_in = self.d_in;
        self.blocks.par_iter_mut().enumerate().for_each(|(n, block)| {
            let first = n * COLUMNS;
            let columns = first..first + block.max_abs.len();
            x.chunks_exact(d_in).for_each(|row| block.add_row(&row[columns.clone()]));
        });
        self.tokens += tokens as u64;
        Ok(())
    }

    /// Adds what another collector of the same input has seen, as if after what this one has.
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
        for (block, other) in self.blocks.iter_mut().zip(&other.blocks) {
            block.sum.iter_mut().zip(&other.sum).for_each(|(sum, other)| *sum += other);
            block.sum_abs.iter_mut().zip(&other.sum_abs).for_each(|(sum, other)| *sum += other);
            block.sum_squares.iter_mut().zip(&other.sum_squares).for_each(|(sum, other)| *sum += other);
            block.max_abs.iter_mut().zip(&other.max_abs).for_each(|(max, other)| *max = max.max(*other));
        }
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

    /// Σx of every column.
    pub fn sum(&self) -> Vec<f64> {
        self.blocks.iter().flat_map(|block| block.sum.iter().copied()).collect()
    }

    /// Σ|x| of every column.
    pub fn sum_abs(&self) -> Vec<f64> {
        self.blocks.iter().flat_map(|block| block.sum_abs.iter().copied()).collect()
    }

    /// Σx² of every column.
    pub fn sum_squares(&self) -> Vec<f64> {
        self.blocks.iter().flat_map(|block| block.sum_squares.iter().copied()).collect()
    }

    /// max|x| of every column; 0 before the first token.
    pub fn max_abs(&self) -> Vec<f32> {
        self.blocks.iter().flat_map(|block| block.max_abs.iter().copied()).collect()
    }

    /// E|x| of every column; 0 before the first token.
    pub fn mean_abs(&self) -> Vec<f32> {
        self.means(self.sum_abs())
    }

    /// E\[x²\] of every column; 0 before the first token.
    pub fn second_moments(&self) -> Vec<f32> {
        self.means(self.sum_squares())
    }

    fn means(&self, sums: Vec<f64>) -> Vec<f32> {
        let tokens = self.tokens.max(1) as f64;
        sums.into_iter().map(|sum| (sum / tokens) as f32).collect()
    }
}

impl Block {
    fn add_row(&mut self, row: &[f32]) {
        let columns = row.len();
        let sums = self.sum_abs[..columns].iter_mut().zip(&mut self.sum_squares[..columns]);
        let sums = sums.zip(&mut self.sum[..columns]);
        for ((((sum_abs, sum_squares), sum), max_abs), &value) in
            sums.zip(&mut self.max_abs[..columns]).zip(row)
        {
            let magnitude = value.abs();
            let wide = f64::from(magnitude);
            *sum += f64::from(value);
            *sum_abs += wide;
            *sum_squares += wide * wide;
            *max_abs = if magnitude > *max_abs { magnitude } else { *max_abs };
        }
    }
}
