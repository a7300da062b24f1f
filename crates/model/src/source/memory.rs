//! Weights in main memory, that may change: those of a model in training. What does not change may stay where it is stored.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use slmc_gguf::activation::ActivationFormat;

use super::{Adapter, StoredWeight, Weight, WeightSource};
use crate::arch::{Role, TensorId};
use crate::config::ModelConfig;
use crate::decoder::KvPrecision;
use crate::error::ModelError;

/// Tensors of a model in f32, row-major, in the checkpoint's layout: all of them, or some over a base that stays as it is, with
/// adapters beside linear layers.
#[derive(Clone)]
pub struct MemorySource {
    config: ModelConfig,
    tensors: BTreeMap<TensorId, Vec<f32>>,
    base: Option<Arc<dyn WeightSource>>,
    adapters: BTreeMap<TensorId, Adapter>,
    scales: BTreeMap<TensorId, Vec<f32>>,
}

/// What may be trained of a [`MemorySource`].
#[derive(Debug)]
pub struct PartsMut<'a> {
    /// The tensors in memory.
    pub tensors: &'a mut BTreeMap<TensorId, Vec<f32>>,
    /// The adapters.
    pub adapters: &'a mut BTreeMap<TensorId, Adapter>,
    /// The scales that are trained in their tensors' place.
    pub scales: &'a mut BTreeMap<TensorId, Vec<f32>>,
}

impl fmt::Debug for MemorySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemorySource").field("tensors", &self.tensors.keys()).finish_non_exhaustive()
    }
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
        Ok(Self { config, tensors, base: None, adapters: BTreeMap::new(), scales: BTreeMap::new() })
    }

    /// The tensors of `base`: those in `trained` in memory, the others where they are. Inputs of products with a quantized base are
    /// not rounded, as gradients would not pass through that.
    ///
    /// # Errors
    /// Whatever the base reports.
    pub fn over(base: Arc<dyn WeightSource>, trained: &[TensorId]) -> Result<Self, ModelError> {
        let load = |&id: &TensorId| Ok((id, base.load(id)?.values));
        let tensors = trained.iter().map(load).collect::<Result<_, ModelError>>()?;
        Ok(Self {
            config: base.config().clone(),
            tensors,
            base: Some(base),
            adapters: BTreeMap::new(),
            scales: BTreeMap::new(),
        })
    }

    /// The same with an adapter beside a stored matrix of linear layers.
    ///
    /// # Errors
    /// The model has no such matrix; an adapter of other shapes than its.
    pub fn with_adapter(mut self, id: TensorId, adapter: Adapter) -> Result<Self, ModelError> {
        let layers = self.config.num_hidden_layers;
        if !Role::LINEAR.contains(&id.role)
            || !self.config.has(id.role)
            || id.layer.is_none_or(|layer| layer >= layers)
        {
            return Err(ModelError::NoSuchTensor { id });
        }
        let shape = self.config.shape(id.role);
        for (name, found, expected) in
            [("A", adapter.a.len(), adapter.rank * shape[1]), ("B", adapter.b.len(), adapter.rank * shape[0])]
        {
            if found != expected || adapter.rank == 0 {
                return Err(ModelError::Length { place: format!("{name} of {id}"), expected, found });
            }
        }
        self.adapters.insert(id, adapter);
        Ok(self)
    }

    /// The same with the numbers that a tensor's scales are, to be trained in its place. The tensor reads as before: what it is under them
    /// whoever trains them knows.
    #[must_use]
    pub fn with_scales(mut self, id: TensorId, scales: Vec<f32>) -> Self {
        self.scales.insert(id, scales);
        self
    }

    /// A copy of another source's weights.
    ///
    /// # Errors
    /// Whatever the source reports.
    pub fn copy_of(source: &dyn WeightSource) -> Result<Self, ModelError> {
        Self::new(source.config().clone(), |id| Ok(source.load(id)?.values))
    }

    /// Whether some tensors are not in memory.
    pub fn has_base(&self) -> bool {
        self.base.is_some()
    }

    /// The tensors in memory.
    pub fn tensors(&self) -> impl Iterator<Item = TensorId> {
        self.tensors.keys().copied()
    }

    /// The adapters.
    pub fn adapters(&self) -> impl Iterator<Item = (TensorId, &Adapter)> {
        self.adapters.iter().map(|(&id, adapter)| (id, adapter))
    }

    /// The scales that are trained in their tensors' place.
    pub fn scales(&self) -> impl Iterator<Item = (TensorId, &[f32])> {
        self.scales.iter().map(|(&id, scales)| (id, scales.as_slice()))
    }

    /// Everything that may be trained, to be changed.
    pub fn parts_mut(&mut self) -> PartsMut<'_> {
        PartsMut { tensors: &mut self.tensors, adapters: &mut self.adapters, scales: &mut self.scales }
    }

    /// A tensor's values with its adapter's change.
    ///
    /// # Errors
    /// Whatever the base reports.
    pub fn merged(&self, id: TensorId) -> Result<Vec<f32>, ModelError> {
        let mut values = self.load(id)?.values;
        if let Some(adapter) = self.adapters.get(&id) {
            adapter.merge_into(&mut values);
        }
        Ok(values)
    }

    /// The values of a tensor in memory.
    ///
    /// # Errors
    /// There is no such tensor.
    pub fn values(&self, id: TensorId) -> Result<&[f32], ModelError> {
        self.tensors.get(&id).map(Vec::as_slice).ok_or(ModelError::NoSuchTensor { id })
    }

    /// Every tensor in memory, to be changed.
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
        if let (None, Some(base)) = (self.tensors.get(&id), &self.base) {
            return Ok(Weight { activation: ActivationFormat::F32, ..base.load_rows(id, rows)? });
        }
        let (values, mut shape) = (self.values(id)?, self.config.shape(id.role));
        let columns: usize = shape[1..].iter().product();
        if rows.start > rows.end || rows.end > shape[0] {
            return Err(ModelError::Rows { id, rows, found: shape[0] });
        }
        shape[0] = rows.len();
        let values = values[rows.start * columns..rows.end * columns].to_vec();
        Ok(Weight { values, shape, activation: ActivationFormat::F32 })
    }

    fn stored(&self, id: TensorId) -> Result<Option<StoredWeight>, ModelError> {
        let (None, Some(base)) = (self.tensors.get(&id), &self.base) else { return Ok(None) };
        let stored = base.stored(id)?;
        Ok(stored.map(|stored| StoredWeight { activation: ActivationFormat::F32, ..stored }))
    }

    fn trains(&self, id: TensorId) -> bool {
        self.tensors.contains_key(&id)
    }

    fn adapter(&self, id: TensorId) -> Option<&Adapter> {
        self.adapters.get(&id)
    }

    fn release(&self, id: TensorId) {
        if let Some(base) = &self.base {
            base.release(id);
        }
    }

    fn kv_precision(&self) -> KvPrecision {
        KvPrecision::F32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
