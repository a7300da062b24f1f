//! What a model file holds.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Serialize;
use slmc_checkpoint::Checkpoint;
use slmc_model::ModelConfig;

use super::distill::DISTILL;
use crate::PipelineError;
use crate::model_file::ModelFile;

/// A model's architecture, size and tensors.
#[derive(Debug, Serialize)]
pub struct Inspection {
    /// Where it is.
    pub path: PathBuf,
    /// `safetensors` or `gguf`.
    pub format: &'static str,
    /// The family.
    pub architecture: &'static str,
    /// Number of parameters.
    pub parameters: u64,
    /// Bytes of the weight files.
    pub bytes: u64,
    /// Bytes of all tensors.
    pub tensor_bytes: u64,
    /// 8 · `tensor_bytes` / weights.
    pub bits_per_weight: f64,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads.
    pub num_key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Longest sequence.
    pub max_position_embeddings: usize,
    /// Whether the head is the embedding.
    pub tie_word_embeddings: bool,
    /// What wrote the file, by its own word (files of slmc).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipe: Option<String>,
    /// How a GGUF file was trained, by its own word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distill: Option<String>,
    /// Every tensor.
    pub tensors: Vec<InspectedTensor>,
}

/// One tensor.
#[derive(Debug, Serialize)]
pub struct InspectedTensor {
    /// Its name in the file.
    pub name: String,
    /// How its values are stored.
    #[serde(rename = "type")]
    pub ty: String,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Bytes of its data.
    pub bytes: u64,
}

/// Reads everything but the weights.
///
/// # Errors
/// A file that cannot be read or whose architecture is not supported.
pub fn inspect(path: &Path) -> Result<Inspection, PipelineError> {
    let model = ModelFile::open(path)?;
    let source = model.source()?;
    let (format, tensors, recipe) = match &model {
        ModelFile::Checkpoint(checkpoint) => {
            let recipe = checkpoint.config_json()["slmc"].get("recipe").map(ToString::to_string);
            ("safetensors", checkpoint_tensors(checkpoint), recipe)
        }
        ModelFile::Gguf(file) => {
            let tensors: Vec<_> = file
                .tensors()
                .iter()
                .map(|t| InspectedTensor {
                    name: t.name.clone(),
                    ty: t.ty.to_string(),
                    shape: t.shape.clone(),
                    bytes: file.data(t).len() as u64,
                })
                .collect();
            ("gguf", tensors, file.metadata().str("slmc.recipe").ok().map(str::to_owned))
        }
    };
    let distill = match &model {
        ModelFile::Gguf(file) => file.metadata().str(DISTILL).ok().map(str::to_owned),
        ModelFile::Checkpoint(_) => None,
    };
    Ok(Inspection { distill, ..summarize(path, &model, source.config(), format, tensors, recipe) })
}

/// Tensors as they are stored, the parts of a packed weight as the weight they make.
fn checkpoint_tensors(checkpoint: &Checkpoint) -> Vec<InspectedTensor> {
    let packed = checkpoint.packed_weights();
    let parts: HashSet<&str> = packed.iter().flat_map(|(_, weight)| weight.parts()).collect();
    let stored = checkpoint.tensors().filter(|t| !parts.contains(t.name.as_str())).map(|t| InspectedTensor {
        name: t.name.clone(),
        ty: t.dtype.to_string(),
        shape: t.shape.clone(),
        bytes: t.bytes() as u64,
    });
    let bytes = |name| checkpoint.tensor(name).map_or(0, |part| part.bytes() as u64);
    let packed = packed.iter().map(|(name, weight)| InspectedTensor {
        name: (*name).to_owned(),
        ty: weight.scheme.to_string(),
        shape: weight.shape.to_vec(),
        bytes: weight.parts().map(bytes).sum(),
    });
    stored.chain(packed).collect()
}

fn summarize(
    path: &Path,
    model: &ModelFile,
    config: &ModelConfig,
    format: &'static str,
    tensors: Vec<InspectedTensor>,
    recipe: Option<String>,
) -> Inspection {
    let tensor_bytes: u64 = tensors.iter().map(|t| t.bytes).sum();
    let weights: u64 = tensors.iter().map(|t| t.shape.iter().map(|&d| d as u64).product::<u64>()).sum();
    Inspection {
        path: path.to_path_buf(),
        format,
        architecture: config.arch.model_type,
        parameters: config.parameters() as u64,
        bytes: model.bytes(),
        tensor_bytes,
        bits_per_weight: 8.0 * tensor_bytes as f64 / weights.max(1) as f64,
        num_hidden_layers: config.num_hidden_layers,
        hidden_size: config.hidden_size,
        intermediate_size: config.intermediate_size,
        num_attention_heads: config.num_attention_heads,
        num_key_value_heads: config.num_key_value_heads,
        head_dim: config.head_dim,
        vocab_size: config.vocab_size,
        max_position_embeddings: config.max_position_embeddings,
        tie_word_embeddings: config.tie_word_embeddings,
        recipe,
        distill: None,
        tensors,
    }
}
