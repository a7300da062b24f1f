//! The student as it comes: a checkpoint, or some of a teacher's layers.

use std::sync::Arc;

use serde_json::Value;
use slmc_checkpoint::config::keep_layers;
use slmc_checkpoint::{Checkpoint, CheckpointPlan, Config, Dtype, TensorSpec};
use slmc_model::{CheckpointSource, MemorySource, ModelConfig, ModelError, TensorId, WeightSource};

use crate::PipelineError;
use crate::model_file::{ModelFile, refuse_quantized};

/// A model to be trained, its weights still in the checkpoint it is made from.
pub struct StudentSource {
    /// The checkpoint.
    pub checkpoint: Arc<Checkpoint>,
    /// The student's `config.json`.
    pub config_json: Value,
    source: CheckpointSource,
    config: ModelConfig,
    /// The checkpoint's layer that each of the student's is.
    layers: Vec<usize>,
}

impl StudentSource {
    /// All of a checkpoint.
    ///
    /// # Errors
    /// No checkpoint, or a quantized one; an architecture that is not supported.
    pub fn whole(file: &ModelFile) -> Result<Self, PipelineError> {
        let checkpoint = checkpoint_of(file)?;
        let source = CheckpointSource::new(Arc::clone(&checkpoint))?;
        let config = source.config().clone();
        Ok(Self {
            config_json: checkpoint.config_json().clone(),
            layers: (0..config.num_hidden_layers).collect(),
            checkpoint,
            source,
            config,
        })
    }

    /// `count` evenly spaced layers of a teacher.
    ///
    /// # Errors
    /// As [`StudentSource::whole`]; more layers than the teacher has, or none.
    pub fn of_layers(teacher: &ModelFile, count: usize) -> Result<Self, PipelineError> {
        let whole = Self::whole(teacher)?;
        let available = whole.config.num_hidden_layers;
        if count == 0 || count > available {
            return Err(PipelineError::Distill {
                reason: format!(
                    "a student of {count} layers from a teacher that has {available}; choose 1 to {available} (--layers)"
                ),
            });
        }
        let layers = evenly_spaced(available, count);
        let mut config_json = whole.config_json;
        if let Some(fields) = config_json.as_object_mut() {
            keep_layers(fields, &layers);
        }
        let path = whole.checkpoint.dir().join("config.json");
        let parsed = Config::from_json(&config_json).map_err(|error| PipelineError::Distill {
            reason: format!("{}, with {count} layers: {error}", path.display()),
        })?;
        let mut config =
            ModelConfig::from_checkpoint(&parsed).map_err(|source| ModelError::Config { path, source })?;
        // A layer keeps its window and its rotation, whatever rule by position made them.
        config.sliding_window = layers.iter().map(|&layer| whole.config.sliding_window[layer]).collect();
        config.rotation = layers.iter().map(|&layer| whole.config.rotation[layer]).collect();
        Ok(Self { config_json, layers, config, ..whole })
    }

    /// Its dimensions.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Its weights in f32.
    ///
    /// # Errors
    /// Whatever the checkpoint reports.
    pub fn weights(&self) -> Result<MemorySource, PipelineError> {
        Ok(MemorySource::new(self.config.clone(), |id| Ok(self.source.load(self.original(id))?.values))?)
    }

    /// The checkpoint's tensor that a tensor of the student is made from.
    fn original(&self, id: TensorId) -> TensorId {
        TensorId { layer: id.layer.map(|layer| self.layers[layer]), ..id }
    }

    /// Name and element type of a tensor: F32 if `exact`, else the type it has in the checkpoint.
    ///
    /// # Errors
    /// There is no such tensor.
    pub fn stored(&self, id: TensorId, exact: bool) -> Result<(String, Dtype), PipelineError> {
        let name = |id| self.config.arch.hf_name(id).ok_or(ModelError::NoSuchTensor { id });
        let original = name(self.original(id))?;
        let found = self.checkpoint.tensor(&original);
        let dtype = found.map(|tensor| tensor.dtype).ok_or(ModelError::NoSuchTensor { id })?;
        Ok((name(id)?, if exact { Dtype::F32 } else { dtype }))
    }

    /// The weight files to be written, in F32 if `exact`.
    ///
    /// # Errors
    /// None of a checkpoint that was opened.
    pub fn layout(&self, exact: bool) -> Result<CheckpointPlan, PipelineError> {
        let specs: Vec<TensorSpec> = self
            .config
            .tensors()
            .into_iter()
            .map(|id| {
                let (name, dtype) = self.stored(id, exact)?;
                Ok(TensorSpec { name, dtype, shape: self.config.shape(id.role) })
            })
            .collect::<Result<_, PipelineError>>()?;
        Ok(CheckpointPlan::new(specs, CheckpointPlan::DEFAULT_SHARD_BYTES)?)
    }

    /// The checkpoint's tensors that are not part of the model.
    pub fn left_out(&self) -> Vec<String> {
        let config = self.source.config();
        let known: Vec<String> =
            config.tensors().into_iter().filter_map(|id| config.arch.hf_name(id)).collect();
        let names = self.checkpoint.tensors().map(|tensor| tensor.name.clone());
        names.filter(|name| !known.contains(name)).collect()
    }
}

fn checkpoint_of(file: &ModelFile) -> Result<Arc<Checkpoint>, PipelineError> {
    match file {
        ModelFile::Checkpoint(checkpoint) => {
            refuse_quantized(checkpoint)?;
            Ok(Arc::clone(checkpoint))
        }
        ModelFile::Gguf(file) => Err(PipelineError::NoModel {
            path: file.path().to_path_buf(),
            reason: "a GGUF file cannot be trained; give the checkpoint directory it was made from".into(),
        }),
    }
}

/// `count` of `0..available`, the first and the last among them.
fn evenly_spaced(available: usize, count: usize) -> Vec<usize> {
    let steps = (count - 1).max(1);
    (0..count).map(|i| (2 * i * (available - 1) + steps) / (2 * steps)).collect()
}

#[cfg(test)]
mod tests {
    use super::evenly_spaced;

    #[test]
    fn layers_are_spread_from_the_first_to_the_last() {
        assert_eq!(evenly_spaced(4, 2), [0, 3]);
        assert_eq!(evenly_spaced(12, 4), [0, 4, 7, 11]);
        assert_eq!(evenly_spaced(5, 1), [0]);
        for available in 1..30 {
            assert_eq!(evenly_spaced(available, available), (0..available).collect::<Vec<_>>());
            for count in 2..=available {
                let layers = evenly_spaced(available, count);
                assert!(layers.windows(2).all(|pair| pair[0] < pair[1]), "{available} {count}: {layers:?}");
                assert_eq!((layers[0], layers[count - 1]), (0, available - 1));
            }
        }
    }
}
