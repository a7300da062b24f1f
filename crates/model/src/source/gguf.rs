//! Weights from a GGUF file: blocks decoded, Q and K rows put back in the checkpoint's order.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use pulp::{Arch, NullaryFnOnce};
use slmc_gguf::activation::ActivationFormat;
use slmc_gguf::blocks::{BlockError, decode, dot};
use slmc_gguf::container::{GgufFile, TensorInfo};

use super::{StoredWeight, Weight, WeightSource, in_parallel};
use crate::arch::{TensorId, permuted_row};
use crate::config::ModelConfig;
use crate::decoder::KvPrecision;
use crate::error::ModelError;
use crate::ops::StoredRows;

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

    /// The tensor as rows in the checkpoint's order.
    fn rows(&self, id: TensorId) -> Result<GgufRows, ModelError> {
        let info = self.find(id)?.clone();
        Ok(GgufRows { file: self.file.clone(), info, heads: self.config.permuted_heads(id.role) })
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
        let stored = self.rows(id)?;
        let mut shape = stored.info.shape.clone();
        let total = shape[0];
        if rows.start > rows.end || rows.end > total {
            return Err(ModelError::Rows { id, rows, found: total });
        }
        let values = if shape.len() == 1 {
            // ggml stores a vector as one row.
            let mut all = vec![0.0; total];
            stored.decode_row(0, &mut all)?;
            rows.clone().map(|row| all[stored.place_of(row)]).collect()
        } else {
            in_parallel(rows.clone(), stored.info.columns(), |rows, out| stored.read(rows, out))?
        };
        shape[0] = rows.len();
        Ok(Weight { values, shape, activation: ActivationFormat::for_weights(stored.info.ty) })
    }

    fn stored(&self, id: TensorId) -> Result<Option<StoredWeight>, ModelError> {
        let rows = self.rows(id)?;
        let activation = ActivationFormat::for_weights(rows.info.ty);
        Ok(Some(StoredWeight { rows: Arc::new(rows), activation }))
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

/// A tensor of a GGUF file.
#[derive(Debug)]
struct GgufRows {
    file: Arc<GgufFile>,
    info: TensorInfo,
    /// Heads whose rows the file has interleaved.
    heads: Option<usize>,
}

impl GgufRows {
    /// Where the file has row `row` of the checkpoint.
    fn place_of(&self, row: usize) -> usize {
        self.heads.map_or(row, |heads| permuted_row(row, heads, self.info.shape[0]))
    }

    /// Decodes stored row `row` (of a vector: all of it) into `out`.
    fn decode_row(&self, row: usize, out: &mut [f32]) -> Result<(), ModelError> {
        let info = &self.info;
        let bytes = &self.file.data(info)[row * info.row_bytes()..][..info.row_bytes()];
        decode(info.ty, bytes, out).map_err(|source| self.undecodable(source))?;
        if Arch::new().dispatch(AllFinite(out)) {
            return Ok(());
        }
        let at = out.iter().position(|value| !value.is_finite()).unwrap_or_default();
        Err(ModelError::NonFinite {
            path: self.file.path().to_path_buf(),
            tensor: info.name.clone(),
            index: row * info.columns() + at,
            value: out[at],
        })
    }

    fn undecodable(&self, source: BlockError) -> ModelError {
        let (path, tensor) = (self.file.path().to_path_buf(), self.info.name.clone());
        ModelError::Blocks { path, tensor, ty: self.info.ty, source }
    }
}

/// Whether all values are numbers: without a branch a value, which compiles to vectors.
struct AllFinite<'a>(&'a [f32]);

impl NullaryFnOnce for AllFinite<'_> {
    type Output = bool;

    #[inline(always)]
    fn call(self) -> bool {
        // A unit of exponent added to a magnitude carries into the sign bit exactly when the exponent is all ones.
        let carries =
            self.0.iter().fold(0, |carries, x| carries | ((x.to_bits() & 0x7fff_ffff) + 0x0080_0000));
        carries >> 31 == 0
    }
}

impl StoredRows for GgufRows {
    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<(), ModelError> {
        rows.zip(out.chunks_exact_mut(self.info.columns()))
            .try_for_each(|(row, out)| self.decode_row(self.place_of(row), out))
    }

    fn multiply(&self, rows: Range<usize>, x: &[f32], out: &mut [f32]) -> Result<(), ModelError> {
        let (info, data) = (&self.info, self.file.data(&self.info));
        let row_bytes = info.row_bytes();
        rows.zip(out).try_for_each(|(row, out)| {
            let bytes = &data[self.place_of(row) * row_bytes..][..row_bytes];
            *out = dot(info.ty, bytes, x).map_err(|source| self.undecodable(source))?;
            Ok(())
        })
    }
}
