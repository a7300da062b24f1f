//! Weights in main memory, that may change: those of a model in training.

use std::collections::BTreeMap;
use std::ops::Range;

use slmc_gguf::activation::ActivationFormat;

use super::{Weight, WeightSource};
use crate::arch::TensorId;
use crate::config::ModelConfig;
use crate::decoder::KvPrecision;
use crate::error::ModelError;

/// All tensors of a model in f32, row-major, in the checkpoint's layout.
#[derive(Clone, Debug)]
pub struct MemorySource {
    config: ModelConfig,
    tensors: BTreeMap<TensorId, Vec<f32>>,
}

impl MemorySource {
    /// The tensors that `config` asks for, each as `values` gives it.
    ///
    /// # Errors
    /// Those of `values`; a tensor of another size.
    pub fn new(
        config: ModelConfig,
        mut values: impl FnMut(TensorId) -> Result<Vec<f32>, ModelError>,
    ) -> Result<Self, ModelError> {
        let mut tensors = BTreeMap::new();
        for id in config.tensors() {
            let (values, expected) = (values(id)?, config.shape(id.role).iter().product());
            if values.len() != expected {
                return Err(ModelError::Length { place: id.to_string(), expected, found: values.len() });
            }
            tensors.insert(id, values);
        }
        Ok(Self { config, tensors })
    }

    /// A copy of another source's weights.
    ///
    /// # Errors
    /// Whatever the source reports.
    pub fn copy_of(source: &dyn WeightSource) -> Result<Self, ModelError> {
        Self::new(source.config().clone(), |id| Ok(source.load(id)?.values))
    }

    /// A tensor's values.
    ///
    /// # Errors
    /// The model has no such tensor.
    pub fn values(&self, id: TensorId) -> Result<&[f32], ModelError> {
        self.tensors.get(&id).map(Vec::as_slice).ok_or(ModelError::NoSuchTensor { id })
    }

    /// Every tensor, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = (TensorId, &mut [f32])> {
        self.tensors.iter_mut().map(|(&id, values)| (id, values.as_mut_slice()))
    }
}

impl WeightSource for MemorySource {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn load(&self, id: TensorId) -> Result<Weight, ModelError> {
        self.load_rows(id, 0..self.config.shape(id.role)[0])
    }

    fn load_rows(&self, id: TensorId, rows: Range<usize>) -> Result<Weight, ModelError> {
        let (values, mut shape) = (self.values(id)?, self.config.shape(id.role));
        let columns: usize = shape[1..].iter().product();
        if rows.start > rows.end || rows.end > shape[0] {
            return Err(ModelError::Rows { id, rows, found: shape[0] });
        }
        shape[0] = rows.len();
        let values = values[rows.start * columns..rows.end * columns].to_vec();
        Ok(Weight { values, shape, activation: ActivationFormat::F32 })
    }

    fn release(&self, _: TensorId) {}

    fn kv_precision(&self) -> KvPrecision {
        KvPrecision::F32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Role;
    use crate::source::CheckpointSource;

    #[test]
    fn a_copy_reads_as_its_source() {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/qwen2");
        let source = CheckpointSource::open(&directory).unwrap();
        let mut copy = MemorySource::copy_of(&source).unwrap();
        for id in source.config().tensors() {
            assert_eq!(copy.load(id).unwrap(), source.load(id).unwrap(), "{id}");
        }
        let id = TensorId::block(0, Role::Down);
        assert_eq!(copy.load_rows(id, 1..3).unwrap(), source.load_rows(id, 1..3).unwrap());
        assert!(matches!(copy.load_rows(id, 1..9999), Err(ModelError::Rows { .. })));
        copy.values_mut().for_each(|(_, values)| values.fill(2.0));
        assert!(copy.load(id).unwrap().values.iter().all(|&value| value == 2.0));
        let short = MemorySource::new(source.config().clone(), |_| Ok(vec![0.0]));
        assert!(matches!(short, Err(ModelError::Length { .. })));
    }
}
