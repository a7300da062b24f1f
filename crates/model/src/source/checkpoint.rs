//! Weights from a Hugging Face checkpoint.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use slmc_checkpoint::{Checkpoint, Dtype};
use slmc_gguf::TensorType;
use slmc_gguf::activation::ActivationFormat;
use slmc_gguf::blocks::dot;

use super::{StoredWeight, Weight, WeightSource, in_parallel};
use crate::arch::TensorId;
use crate::config::ModelConfig;
use crate::decoder::KvPrecision;
use crate::error::ModelError;
use crate::ops::{StoredRows, multiply_decoded};

/// A checkpoint whose configuration the decoder can run and whose tensors have the shapes it says.
#[derive(Debug)]
pub struct CheckpointSource {
    checkpoint: Arc<Checkpoint>,
    config: ModelConfig,
}

impl CheckpointSource {
    /// Opens a checkpoint directory.
    ///
    /// # Errors
    /// As [`CheckpointSource::new`], and whatever is wrong with the directory.
    pub fn open(dir: &Path) -> Result<Self, ModelError> {
        Self::new(Arc::new(Checkpoint::open(dir)?))
    }

    /// Weights of an open checkpoint.
    ///
    /// # Errors
    /// A configuration the decoder cannot run; a tensor that is absent or of another shape than it says.
    pub fn new(checkpoint: Arc<Checkpoint>) -> Result<Self, ModelError> {
        let config = ModelConfig::from_checkpoint(checkpoint.config())
            .map_err(|source| ModelError::Config { path: checkpoint.dir().join("config.json"), source })?;
        let source = Self { checkpoint, config };
        for id in source.config.tensors() {
            source.find(id)?;
        }
        Ok(source)
    }

    /// The checkpoint.
    pub fn checkpoint(&self) -> &Arc<Checkpoint> {
        &self.checkpoint
    }

    /// The tensor's name and shape.
    fn find(&self, id: TensorId) -> Result<(String, Vec<usize>), ModelError> {
        let name = self.config.arch.hf_name(id).ok_or(ModelError::NoSuchTensor { id })?;
        let Some(found) = self.checkpoint.shape(&name) else {
            return Err(ModelError::MissingTensor {
                path: self.checkpoint.dir().to_path_buf(),
                tensor: name,
                id,
            });
        };
        let (found, expected) = (found.to_vec(), self.config.shape(id.role));
        if found != expected {
            let path = self.checkpoint.file_of(&name)?.to_path_buf();
            return Err(ModelError::Shape { path, tensor: name, expected, found });
        }
        Ok((name, found))
    }
}

impl WeightSource for CheckpointSource {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn load(&self, id: TensorId) -> Result<Weight, ModelError> {
        let (_, shape) = self.find(id)?;
        let weight = self.load_rows(id, 0..shape[0])?;
        self.release(id);
        Ok(Weight { shape, ..weight })
    }

    fn load_rows(&self, id: TensorId, rows: Range<usize>) -> Result<Weight, ModelError> {
        let (name, mut shape) = self.find(id)?;
        if rows.start > rows.end || rows.end > shape[0] {
            return Err(ModelError::Rows { id, rows, found: shape[0] });
        }
        let columns = shape[1..].iter().product();
        let mut values = in_parallel(rows.clone(), columns, |rows, out| {
            Ok(self.checkpoint.read_rows_f32(&name, rows, out)?)
        })?;
        let offset = self.config.offset(id.role);
        if offset != 0.0 {
            values.iter_mut().for_each(|value| *value += offset);
        }
        shape[0] = rows.len();
        Ok(Weight { values, shape, activation: ActivationFormat::F32 })
    }

    fn stored(&self, id: TensorId) -> Result<Option<StoredWeight>, ModelError> {
        let (name, _) = self.find(id)?;
        let plain = plain(&self.checkpoint, &name);
        let rows = CheckpointRows { checkpoint: self.checkpoint.clone(), name, plain };
        Ok(Some(StoredWeight { rows: Arc::new(rows), activation: ActivationFormat::F32 }))
    }

    fn release(&self, id: TensorId) {
        if let Some(name) = self.config.arch.hf_name(id) {
            // A tensor that is not there has no pages.
            let _ = self.checkpoint.release(&name);
        }
    }

    fn kv_precision(&self) -> KvPrecision {
        KvPrecision::F32
    }
}

/// A matrix of a checkpoint.
#[derive(Debug)]
struct CheckpointRows {
    checkpoint: Arc<Checkpoint>,
    name: String,
    /// How its values are stored, where that is one by one.
    plain: Option<TensorType>,
}

impl StoredRows for CheckpointRows {
    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<(), ModelError> {
        Ok(self.checkpoint.read_rows_f32(&self.name, rows, out)?)
    }

    fn multiply(&self, rows: Range<usize>, x: &[f32], out: &mut [f32]) -> Result<(), ModelError> {
        let Some(ty) = self.plain else { return multiply_decoded(self, rows, x, out) };
        let bytes = self.checkpoint.bytes(&self.name)?;
        let row_bytes = x.len() * ty.block_bytes();
        for (row, out) in rows.zip(out) {
            // as long as the row, whose shape was checked
            *out = dot(ty, &bytes[row * row_bytes..][..row_bytes], x).unwrap_or(f32::NAN);
        }
        Ok(())
    }
}

/// The type of blocks that a tensor's bytes are, one value each, where it is stored so.
fn plain(checkpoint: &Checkpoint, name: &str) -> Option<TensorType> {
    match checkpoint.tensor(name).filter(|_| checkpoint.packed(name).is_none())?.dtype {
        Dtype::F32 => Some(TensorType::F32),
        Dtype::F16 => Some(TensorType::F16),
        Dtype::BF16 => Some(TensorType::BF16),
        _ => None,
    }
}
