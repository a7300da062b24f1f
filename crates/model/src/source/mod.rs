//! Where weights come from, one tensor at a time.

mod adapter;
mod checkpoint;
mod gguf;
mod memory;

use std::ops::Range;
use std::sync::Arc;

pub use adapter::Adapter;
pub use checkpoint::CheckpointSource;
pub use gguf::GgufSource;
pub use memory::{MemorySource, PartsMut};
use slmc_gguf::activation::ActivationFormat;

use crate::arch::TensorId;
use crate::config::ModelConfig;
use crate::decoder::KvPrecision;
use crate::error::ModelError;
use crate::ops::StoredRows;

/// A tensor, or some of its rows, in f32.
#[derive(Clone, Debug, PartialEq)]
pub struct Weight {
    /// Row-major, rows in the order of the checkpoint.
    pub values: Vec<f32>,
    /// Outermost dimension first: `[d_out, d_in]`.
    pub shape: Vec<usize>,
    /// What the input of a product with this weight is rounded to.
    pub activation: ActivationFormat,
}

/// A matrix that is read where it is stored.
#[derive(Clone, Debug)]
pub struct StoredWeight {
    /// Its rows, in the order of the checkpoint.
    pub rows: Arc<dyn StoredRows>,
    /// What the input of a product with this weight is rounded to.
    pub activation: ActivationFormat,
}

/// A model's weights in some file.
pub trait WeightSource: Send + Sync {
    /// The model's dimensions.
    fn config(&self) -> &ModelConfig;

    /// Reads a tensor whole and lets its mapped pages go.
    ///
    /// # Errors
    /// The tensor is absent, has another shape than the configuration says, cannot be decoded, or holds NaN or
    /// infinity.
    fn load(&self, id: TensorId) -> Result<Weight, ModelError>;

    /// Reads rows of a matrix. Its mapped pages stay: see [`WeightSource::release`].
    ///
    /// # Errors
    /// As [`WeightSource::load`]; rows that are not there.
    fn load_rows(&self, id: TensorId, rows: Range<usize>) -> Result<Weight, ModelError>;

    /// The matrix to be read where it is stored, again and again, a few rows at a time; `None` of a source whose values are
    /// not those of a file.
    ///
    /// # Errors
    /// The tensor is absent or has another shape than the configuration says.
    fn stored(&self, id: TensorId) -> Result<Option<StoredWeight>, ModelError> {
        let _ = id;
        Ok(None)
    }

    /// Whether a tensor is in training, so that it wants a gradient on a device with gradients.
    fn trains(&self, id: TensorId) -> bool {
        let _ = id;
        true
    }

    /// The low-rank change of a linear layer's weight, where it has one. What [`WeightSource::load`] gives is without it.
    fn adapter(&self, id: TensorId) -> Option<&Adapter> {
        let _ = id;
        None
    }

    /// Lets the mapped pages of a tensor go; it can be read again.
    fn release(&self, id: TensorId);

    /// What keys and values are rounded to when the file's usual runtime runs it.
    fn kv_precision(&self) -> KvPrecision;
}

/// Rows that one task converts.
const ROWS: usize = 64;

/// Calls `read(rows, out)` in parallel for pieces of `rows`; gives them together, `[rows.len(), columns]`.
fn in_parallel(
    rows: Range<usize>,
    columns: usize,
    read: impl Fn(Range<usize>, &mut [f32]) -> Result<(), ModelError> + Sync,
) -> Result<Vec<f32>, ModelError> {
    use rayon::prelude::*;
    let mut values = vec![0.0; rows.len() * columns];
    values.par_chunks_mut((ROWS * columns).max(1)).enumerate().try_for_each(|(piece, out)| {
        let first = rows.start + piece * ROWS;
        read(first..first + out.len() / columns, out)
    })?;
    Ok(values)
}
