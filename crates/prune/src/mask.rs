//! Which weights stay.

use crate::PruneError;

/// Which weights of a matrix `[rows, columns]` are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    columns: usize,
    kept: Vec<bool>,
}

impl Mask {
    /// From one flag a weight, row-major.
    ///
    /// # Panics
    /// If `kept` makes no whole rows.
    pub fn new(kept: Vec<bool>, columns: usize) -> Self {
        assert!(columns > 0 && kept.len().is_multiple_of(columns), "{} flags, {columns} columns", kept.len());
        Self { columns, kept }
    }

    /// Of a matrix that has been pruned: what is not zero is kept.
    ///
    /// # Panics
    /// If `weights` makes no whole rows.
    pub fn of_zeros(weights: &[f32], columns: usize) -> Self {
        Self::new(weights.iter().map(|w| *w != 0.0).collect(), columns)
    }

    /// Columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.kept.len() / self.columns
    }

    /// One flag a weight, row-major.
    pub fn kept(&self) -> &[bool] {
        &self.kept
    }

    /// One flag a weight of a row.
    pub fn row(&self, row: usize) -> &[bool] {
        &self.kept[row * self.columns..][..self.columns]
    }

    /// Weights that are pruned.
    pub fn pruned(&self) -> usize {
        self.kept.iter().filter(|kept| !**kept).count()
    }

    /// Makes the pruned weights zero.
    ///
    /// # Errors
    /// Another number of weights.
    pub fn apply(&self, weights: &mut [f32]) -> Result<(), PruneError> {
        if weights.len() != self.kept.len() {
            let (expected, found) = (self.kept.len(), weights.len());
            return Err(PruneError::Length { what: "weights", expected, found });
        }
        weights.iter_mut().zip(&self.kept).filter(|(_, kept)| !**kept).for_each(|(w, _)| *w = 0.0);
        Ok(())
    }
}
