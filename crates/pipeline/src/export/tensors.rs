//! Which tensors the GGUF file gets, and where their rows come from.

use slmc_checkpoint::{Checkpoint, CheckpointError, Dtype};
use slmc_gguf::TensorType;
use slmc_model::config::{ROPE_FACTORS_LONG, ROPE_FACTORS_SHORT, ROPE_FREQS};
use slmc_model::{ModelConfig, Role, RopeScaling, rope::rope_factors};
use slmc_quant::mix::TensorFacts;

use crate::PipelineError;

/// Where a tensor's values come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// A tensor of the checkpoint.
    Stored {
        /// Its Hugging Face name.
        hf_name: String,
        /// Heads whose rows GGUF wants interleaved; `None` where the order is kept.
        permuted_heads: Option<usize>,
        /// What the checkpoint leaves out of the values.
        offset: f32,
        /// Whether the file to be written leaves it out, too.
        leaves_offset_out: bool,
    },
    /// Values that follow from the configuration.
    Computed(Vec<f32>),
}

/// One tensor of the file to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportTensor {
    /// GGUF name.
    pub name: String,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Precision of the checkpoint.
    pub source: TensorType,
    /// Where its values come from.
    pub origin: Origin,
}

impl ExportTensor {
    /// Rows: every dimension but the last; 1 for a vector.
    pub fn rows(&self) -> usize {
        if self.shape.len() < 2 { 1 } else { self.shape[0] }
    }

    /// Values a row.
    pub fn columns(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// What the plan needs to know.
    pub fn facts(&self) -> TensorFacts {
        TensorFacts { name: self.name.clone(), shape: self.shape.clone(), source: self.source }
    }
}

/// The tensors of the GGUF file, in its order: the embedding, the blocks, the final norm, a head of its own, rotary factors.
/// Also the names of checkpoint tensors that are not part of the model and will be left out.
///
/// # Errors
/// A tensor that the configuration asks for is missing or has another shape.
pub fn export_tensors(
    checkpoint: &Checkpoint,
    config: &ModelConfig,
) -> Result<(Vec<ExportTensor>, Vec<String>), PipelineError> {
    let mut tensors = Vec::new();
    let mut used = std::collections::HashSet::new();
    for id in config.tensors() {
        let (Some(hf_name), Some(name)) = (config.arch.hf_name(id), config.arch.gguf_name(id)) else {
            unreachable!("an architecture names every tensor it has")
        };
        let expected = config.shape(id.role);
        let info = checkpoint.tensor(&hf_name).ok_or_else(|| PipelineError::MissingTensor {
            path: checkpoint.dir().to_path_buf(),
            tensor: hf_name.clone(),
        })?;
        if info.shape != expected {
            return Err(PipelineError::Shape {
                path: checkpoint.dir().to_path_buf(),
                tensor: hf_name,
                expected,
                found: info.shape.clone(),
            });
        }
        let source = match info.dtype {
            Dtype::F16 => TensorType::F16,
            Dtype::BF16 => TensorType::BF16,
            Dtype::F32 => TensorType::F32,
            found @ (Dtype::I32 | Dtype::I64) => {
                return Err(CheckpointError::NotFloat { tensor: hf_name, found }.into());
            }
        };
        used.insert(hf_name.clone());
        let origin = Origin::Stored {
            hf_name,
            permuted_heads: config.permuted_heads(id.role),
            offset: config.offset(id.role),
            leaves_offset_out: false,
        };
        tensors.push(ExportTensor { name, shape: expected, source, origin });
    }
    for (name, factors) in factors(config) {
        tensors.push(ExportTensor {
            name: name.into(),
            shape: vec![factors.len()],
            source: TensorType::F32,
            origin: Origin::Computed(factors),
        });
    }
    let left_out = checkpoint
        .tensors()
        .map(|info| &info.name)
        .filter(|name| !used.contains(*name) && !is_derived(name, config))
        .cloned()
        .collect();
    Ok((tensors, left_out))
}

/// The divisors of rotary frequencies that no key says.
fn factors(config: &ModelConfig) -> Vec<(&'static str, Vec<f32>)> {
    match &config.rope_scaling {
        RopeScaling::Default | RopeScaling::Linear { .. } => Vec::new(),
        RopeScaling::Llama3 { .. } | RopeScaling::Factors(_) => {
            vec![(ROPE_FREQS, rope_factors(config, config.max_position_embeddings))]
        }
        RopeScaling::LongRope { short, long, .. } => {
            vec![(ROPE_FACTORS_LONG, long.clone()), (ROPE_FACTORS_SHORT, short.clone())]
        }
    }
}

/// Tensors that old checkpoints hold although they follow from others: rotary tables, and the copy of a tied head.
fn is_derived(name: &str, config: &ModelConfig) -> bool {
    let tied_head =
        config.tie_word_embeddings && config.arch.by_hf_name(name).is_some_and(|id| id.role == Role::Head);
    tied_head || name.ends_with(".rotary_emb.inv_freq")
}
