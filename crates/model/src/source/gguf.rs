//! Weights from a GGUF file: blocks decoded, Q and K rows put back in the checkpoint's order.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use slmc_gguf::activation::ActivationFormat;
use slmc_gguf::blocks::decode;
use slmc_gguf::container::{GgufFile, TensorInfo};

use super::{Weight, WeightSource, in_parallel};
use crate::arch::{TensorId, permuted_row};
use crate::config::ModelConfig;
use crate::decoder::KvPrecision;
use crate::error::ModelError;

/// A GGUF file whose configuration the decoder can run and whose tensors have the shapes it says.
#[derive(Debug)]
pub struct GgufSource {
    file: Arc<GgufFile>,
    config: ModelConfig,
}

impl GgufSource {
    /// Opens a GGUF file.
    ///
    /// # Errors
    /// As [`GgufSource::new`], and whatever is wrong with the file.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        Self::new(Arc::new(GgufFile::open(path)?))
    }

    /// Weights of an open file.
    ///
    /// # Errors
    /// A configuration the decoder cannot run; a tensor that is absent or of another shape than it says.
    pub fn new(file: Arc<GgufFile>) -> Result<Self, ModelError> {
        let config = ModelConfig::from_gguf(&file)
            .map_err(|source| ModelError::Config { path: file.path().to_path_buf(), source })?;
        let source = Self { file, config };
        for id in source.config.tensors() {
            source.find(id)?;
        }
        Ok(source)
    }

    /// The file.
    pub fn file(&self) -> &Arc<GgufFile> {
        &self.file
    }

    fn find(&self, id: TensorId) -> Result<&TensorInfo, ModelError> {
        let name = self.config.arch.gguf_name(id).ok_or(ModelError::NoSuchTensor { id })?;
        let path = || self.file.path().to_path_buf();
        let info = self.file.tensor(&name).ok_or_else(|| ModelError::MissingTensor {
            path: path(),
            tensor: name,
            id,
        })?;
        let expected = self.config.shape(id.role);
        if info.shape != expected {
            let (tensor, found) = (info.name.clone(), info.shape.clone());
            return Err(ModelError::Shape { path: path(), tensor, expected, found });
        }
        Ok(info)
    }

    /// Decodes stored row `row` (of a vector: all of it) into `out`.
    fn decode_row(&self, info: &TensorInfo, row: usize, out: &mut [f32]) -> Result<(), ModelError> {
        let bytes = &self.file.data(info)[row * info.row_bytes()..][..info.row_bytes()];
        let path = || self.file.path().to_path_buf();
        decode(info.ty, bytes, out).map_err(|source| ModelError::Blocks {
            path: path(),
            tensor: info.name.clone(),
            ty: info.ty,
            source,
        })?;
        match out.iter().position(|value| !value.is_finite()) {
            None => Ok(()),
            Some(at) => Err(ModelError::NonFinite {
                path: path(),
                tensor: info.name.clone(),
                index: row * info.columns() + at,
                value: out[at],
            }),
        }
    }
}

impl WeightSource for GgufSource {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn load(&self, id: TensorId) -> Result<Weight, ModelError> {
        let weight = self.load_rows(id, 0..self.find(id)?.shape[0])?;
        self.release(id);
        Ok(weight)
    }

    fn load_rows(&self, id: TensorId, rows: Range<usize>) -> Result<Weight, ModelError> {
        let info = self.find(id)?;
        let total = info.shape[0];
        if rows.start > rows.end || rows.end > total {
            return Err(ModelError::Rows { id, rows, found: total });
        }
        let heads = self.config.permuted_heads(id.role);
        let stored = |row| heads.map_or(row, |heads| permuted_row(row, heads, total));
        let values = if info.shape.len() == 1 {
            // ggml stores a vector as one row.
            let mut all = vec![0.0; total];
            self.decode_row(info, 0, &mut all)?;
            rows.clone().map(|row| all[stored(row)]).collect()
        } else {
            let columns = info.columns();
            in_parallel(rows.clone(), columns, |rows, out| {
                rows.zip(out.chunks_exact_mut(columns))
                    .try_for_each(|(row, out)| self.decode_row(info, stored(row), out))
            })?
        };
        let mut shape = info.shape.clone();
        shape[0] = rows.len();
        Ok(Weight { values, shape, activation: ActivationFormat::for_weights(info.ty) })
    }

    fn release(&self, id: TensorId) {
        if let Ok(info) = self.find(id) {
            self.file.release(info);
        }
    }

    fn kv_precision(&self) -> KvPrecision {
        KvPrecision::F16
    }
}
