//! Grids: sets of representable values with block structure.

use slmc_gguf::TensorType;
use slmc_gguf::blocks::{self, GramBlocks};

use crate::QuantError;

/// A set of values that weights can be stored in, block by block along a row.
///
/// Every row is encoded by itself: a method may split a matrix between threads at any row.
pub trait Grid: Copy + Send + Sync {
    /// Name for messages.
    fn name(self) -> String;

    /// Weights in one block; a row must be a whole number of blocks.
    fn block_len(self) -> usize;

    /// Bytes of a row of `columns` weights; `None` where the blocks do not divide it.
    fn row_bytes(self, columns: usize) -> Option<usize>;

    /// Whether 0 is among the values of every block, whatever its scales. Not so where a block has a minimum (a value is
    /// size · code − minimum, and 0 only by chance), or where a codebook leaves it out, as IQ4_NL's does.
    fn holds_zero(self) -> bool;

    /// Fits the blocks' scales to `rows` (`[n, columns]`), rounds the weights and packs them into `out`, on the calling thread.
    ///
    /// `importance` (`[columns]`, not negative) weighs each column's squared error; without it the grid weighs by its own
    /// rule, as ggml does.
    ///
    /// # Errors
    /// Lengths that do not fit, weights that are not finite.
    fn encode(
        self,
        rows: &[f32],
        columns: usize,
        importance: Option<&[f32]>,
        out: &mut [u8],
    ) -> Result<(), QuantError>;

    /// Columns of a run in which [`Grid::refine`] wants the products of inputs; `None` where it changes nothing.
    fn run_len(self) -> Option<usize>;

    /// Chooses the scales of `bytes`, which [`Grid::encode`] made of `rows`, again: by the products of inputs of neighbouring columns
    /// instead of each column's squares. No block's error rises by that measure.
    ///
    /// # Errors
    /// Lengths that do not fit, products of other columns, weights that are not finite.
    fn refine(
        self,
        rows: &[f32],
        columns: usize,
        gram: &GramBlocks,
        bytes: &mut [u8],
    ) -> Result<(), QuantError>;

    /// Unpacks whole blocks into as many weights.
    ///
    /// # Errors
    /// Lengths that do not fit.
    fn decode(self, bytes: &[u8], out: &mut [f32]) -> Result<(), QuantError>;
}

impl Grid for TensorType {
    fn name(self) -> String {
        self.to_string()
    }

    fn block_len(self) -> usize {
        TensorType::block_len(self)
    }

    fn row_bytes(self, columns: usize) -> Option<usize> {
        self.bytes_for(columns)
    }

    fn holds_zero(self) -> bool {
        blocks::holds_zero(self)
    }

    fn encode(
        self,
        rows: &[f32],
        columns: usize,
        importance: Option<&[f32]>,
        out: &mut [u8],
    ) -> Result<(), QuantError> {
        Ok(blocks::encode(self, rows, columns, importance, out)?)
    }

    fn run_len(self) -> Option<usize> {
        blocks::run_len(self)
    }

    fn refine(
        self,
        rows: &[f32],
        columns: usize,
        gram: &GramBlocks,
        bytes: &mut [u8],
    ) -> Result<(), QuantError> {
        Ok(blocks::refine(self, rows, columns, gram, bytes)?)
    }

    fn decode(self, bytes: &[u8], out: &mut [f32]) -> Result<(), QuantError> {
        Ok(blocks::decode(self, bytes, out)?)
    }
}
