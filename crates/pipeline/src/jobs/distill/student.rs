//! The student as it comes: a checkpoint, a quantized file, some of a teacher's layers, or nothing but dimensions.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use slmc_checkpoint::config::keep_layers;
use slmc_checkpoint::{Checkpoint, CheckpointPlan, Config, Dtype, TensorSpec};
use slmc_distill::{Parameter, Trained};
use slmc_model::{
    KvPrecision, MemorySource, ModelConfig, ModelError, StoredWeight, TensorId, Weight, WeightSource,
};

use super::fresh::Fresh;
use crate::PipelineError;
use crate::model_file::{ModelFile, refuse_quantized};

/// A model to be trained, its weights still in the file it is made from.
pub struct StudentSource {
    /// What it is made from; of a fresh student its teacher, whose tokenizer it has.
    pub file: ModelFile,
    /// The student's `config.json`.
    pub config_json: Value,
    source: Arc<dyn WeightSource>,
    /// The file's layer that each of its own is; `None` of a fresh student.
    layers: Option<Vec<usize>>,
}

impl StudentSource {
    /// All of a model. Over packed integers only adapters can be trained, over a GGUF file's blocks not its norms alone, and scales there
    /// alone.
    ///
    /// # Errors
    /// An architecture that is not supported; quantized weights of which that was asked.
    pub fn whole(file: ModelFile, trained: &Trained) -> Result<Self, PipelineError> {
        match (&file, trained) {
            (_, Trained::Lora(_)) | (ModelFile::Gguf(_), Trained::All | Trained::Scales) => {}
            (ModelFile::Checkpoint(checkpoint), Trained::Scales) => {
                return Err(PipelineError::Distill {
                    reason: format!(
                        "--train scales trains the scales of a GGUF file's blocks, and {} is a checkpoint; give a GGUF file with --student",
                        checkpoint.dir().display()
                    ),
                });
            }
            _ => refuse_stored(&file)?,
        }
        let source = file.source()?;
        let config = source.config().clone();
        let layers: Vec<usize> = (0..config.num_hidden_layers).collect();
        let config_json = match &file {
            ModelFile::Checkpoint(checkpoint) => checkpoint.config_json().clone(),
            ModelFile::Gguf(_) => described(&config),
        };
        let source = SomeLayers { source, config, layers: layers.clone() };
        Ok(Self { file, config_json, source: Arc::new(source), layers: Some(layers) })
    }

    /// `count` evenly spaced layers of a teacher.
    ///
    /// # Errors
    /// As [`StudentSource::whole`]; more layers than the teacher has, or none.
    pub fn of_layers(teacher: ModelFile, count: usize, trained: &Trained) -> Result<Self, PipelineError> {
        let checkpoint = checkpoint_of(&teacher)?;
        let whole = Self::whole(teacher, trained)?;
        let all = whole.config().clone();
        let available = all.num_hidden_layers;
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
        let path = checkpoint.dir().join("config.json");
        let mut config = dimensions(&config_json, &path, &format!(", with {count} layers"))?;
        // A layer keeps its window and its rotation, whatever rule by position made them.
        config.sliding_window = layers.iter().map(|&layer| all.sliding_window[layer]).collect();
        config.rotation = layers.iter().map(|&layer| all.rotation[layer]).collect();
        let source = SomeLayers { source: whole.file.source()?, config, layers: layers.clone() };
        Ok(Self { file: whole.file, config_json, source: Arc::new(source), layers: Some(layers) })
    }

    /// A fresh student of the dimensions in a `config.json`, with the teacher's tokenizer.
    ///
    /// # Errors
    /// A file that cannot be read, or dimensions that the decoder cannot run; a vocabulary smaller than the teacher's tokenizer; adapters,
    /// which need something to adapt; a teacher that is no checkpoint.
    pub fn fresh(
        path: &Path,
        teacher: ModelFile,
        trained: &Trained,
        seed: u64,
    ) -> Result<Self, PipelineError> {
        let refuse =
            |reason: String| PipelineError::Distill { reason: format!("{}: {reason}", path.display()) };
        checkpoint_of(&teacher)?;
        if *trained != Trained::All {
            return Err(refuse(
                "a fresh student has nothing to keep; leave out --lora-rank and --train".into(),
            ));
        }
        let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
        let config_json: Value = serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))?;
        let config = dimensions(&config_json, path, "")?;
        let deviation = match config_json.get("initializer_range") {
            None | Some(Value::Null) => 0.02,
            Some(value) => value
                .as_f64()
                .filter(|value| value.is_finite() && *value > 0.0)
                .ok_or_else(|| refuse(format!("initializer_range is {value}; expected a number above 0")))?,
        };
        let tokens = teacher.tokenizer(usize::MAX)?.vocab_size();
        if config.vocab_size < tokens {
            let rows = config.vocab_size;
            return Err(refuse(format!(
                "vocab_size is {rows}, but the teacher's tokenizer has {tokens} tokens"
            )));
        }
        let source = Fresh { config, deviation: deviation as f32, seed };
        Ok(Self { file: teacher, config_json, source: Arc::new(source), layers: None })
    }

    /// Its dimensions.
    pub fn config(&self) -> &ModelConfig {
        self.source.config()
    }

    /// The student before its first step.
    ///
    /// # Errors
    /// Whatever the file reports.
    pub fn begin(&self, trained: &Trained, seed: u64) -> Result<MemorySource, PipelineError> {
        Ok(trained.begin(Arc::clone(&self.source), seed)?)
    }

    /// The checkpoint it is made from.
    ///
    /// # Errors
    /// It is made from a GGUF file.
    pub fn checkpoint(&self) -> Result<Arc<Checkpoint>, PipelineError> {
        checkpoint_of(&self.file)
    }

    /// Name and element type of a tensor: F32 if `exact`, else the type it has in the checkpoint.
    ///
    /// # Errors
    /// There is no such tensor, or no checkpoint.
    pub fn stored(&self, id: TensorId, exact: bool) -> Result<(String, Dtype), PipelineError> {
        let name = |id| self.config().arch.hf_name(id).ok_or(ModelError::NoSuchTensor { id });
        let dtype = match &self.layers {
            _ if exact => Dtype::F32,
            None => {
                let asked = self.config_json.get("dtype").or_else(|| self.config_json.get("torch_dtype"));
                asked.and_then(|name| Dtype::from_torch_name(name.as_str()?)).unwrap_or(Dtype::F32)
            }
            Some(layers) => {
                let original = TensorId { layer: id.layer.map(|layer| layers[layer]), ..id };
                let checkpoint = self.checkpoint()?;
                let found = checkpoint.tensor(&name(original)?);
                found.map(|tensor| tensor.dtype).ok_or(ModelError::NoSuchTensor { id })?
            }
        };
        Ok((name(id)?, dtype))
    }

    /// The weight files of the whole student, in F32 if `exact`.
    ///
    /// # Errors
    /// None of a checkpoint that was opened.
    pub fn layout(&self, exact: bool) -> Result<CheckpointPlan, PipelineError> {
        let specs: Vec<TensorSpec> = self
            .config()
            .tensors()
            .into_iter()
            .map(|id| {
                let (name, dtype) = self.stored(id, exact)?;
                Ok(TensorSpec { name, dtype, shape: self.config().shape(id.role) })
            })
            .collect::<Result<_, PipelineError>>()?;
        Ok(CheckpointPlan::new(specs, CheckpointPlan::DEFAULT_SHARD_BYTES)?)
    }

    /// The weight file of adapters alone.
    ///
    /// # Errors
    /// None of adapters that a family names.
    pub fn adapter_layout(&self, weights: &MemorySource) -> Result<CheckpointPlan, PipelineError> {
        let all = Parameter::all(weights)?.into_iter();
        let specs = all.map(|part| TensorSpec { name: part.name, dtype: Dtype::F32, shape: part.shape });
        Ok(CheckpointPlan::adapter(specs.collect())?)
    }

    /// The checkpoint's tensors that are not part of the model.
    pub fn left_out(&self) -> Vec<String> {
        let (ModelFile::Checkpoint(checkpoint), Some(_)) = (&self.file, &self.layers) else {
            return Vec::new();
        };
        let Ok(whole) = self.file.source() else { return Vec::new() };
        let config = whole.config();
        let known: Vec<String> =
            config.tensors().into_iter().filter_map(|id| config.arch.hf_name(id)).collect();
        let names = checkpoint.tensors().map(|tensor| tensor.name.clone());
        names.filter(|name| !known.contains(name)).collect()
    }
}

/// A model of some of another's layers, and everything around them.
struct SomeLayers {
    source: Box<dyn WeightSource>,
    config: ModelConfig,
    /// The other's layer that each of these is.
    layers: Vec<usize>,
}

impl SomeLayers {
    /// The other's tensor that a tensor is.
    fn original(&self, id: TensorId) -> TensorId {
        TensorId { layer: id.layer.map(|layer| self.layers[layer]), ..id }
    }
}

impl WeightSource for SomeLayers {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn load(&self, id: TensorId) -> Result<Weight, ModelError> {
        self.source.load(self.original(id))
    }

    fn load_rows(&self, id: TensorId, rows: Range<usize>) -> Result<Weight, ModelError> {
        self.source.load_rows(self.original(id), rows)
    }

    fn stored(&self, id: TensorId) -> Result<Option<StoredWeight>, ModelError> {
        self.source.stored(self.original(id))
    }

    fn release(&self, id: TensorId) {
        self.source.release(self.original(id));
    }

    fn kv_precision(&self) -> KvPrecision {
        self.source.kv_precision()
    }
}

/// The dimensions that a `config.json` says; `of` says what of it was changed.
fn dimensions(json: &Value, path: &Path, of: &str) -> Result<ModelConfig, PipelineError> {
    let parsed = Config::from_json(json)
        .map_err(|error| PipelineError::Distill { reason: format!("{}{of}: {error}", path.display()) })?;
    let path = path.to_path_buf();
    Ok(ModelConfig::from_checkpoint(&parsed).map_err(|source| ModelError::Config { path, source })?)
}

fn checkpoint_of(file: &ModelFile) -> Result<Arc<Checkpoint>, PipelineError> {
    match file {
        ModelFile::Checkpoint(checkpoint) => Ok(Arc::clone(checkpoint)),
        ModelFile::Gguf(file) => Err(PipelineError::NoModel {
            path: file.path().to_path_buf(),
            reason: "this needs a checkpoint directory, and this is a GGUF file; give the directory that it was made from"
                .into(),
        }),
    }
}

/// An error where weights are quantized.
fn refuse_stored(file: &ModelFile) -> Result<(), PipelineError> {
    refuse_quantized(checkpoint_of(file)?.as_ref())
}

/// What a GGUF file says of a model, as a `config.json` says it: for the states of a run.
fn described(config: &ModelConfig) -> Value {
    json!({
        "architectures": [config.arch.hf_class],
        "model_type": config.arch.model_type,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_theta,
        "max_position_embeddings": config.max_position_embeddings,
        "tie_word_embeddings": config.tie_word_embeddings,
    })
}

/// `count` of `0..available`, the first and the last among them.
pub fn evenly_spaced(available: usize, count: usize) -> Vec<usize> {
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
