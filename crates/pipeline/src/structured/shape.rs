//! The size of the model that remains.

use serde::{Deserialize, Serialize};
use slmc_checkpoint::config::Dimensions;
use slmc_model::{ModelConfig, Role};
use slmc_prune::structured::Widths;

use super::cutting::Staying;

/// The blocks that stay, and their widths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Blocks of the original, ascending.
    pub layers: Vec<usize>,
    /// Dimensions of the residual stream that stay, ascending; `None` for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<Vec<usize>>,
    /// How many of each kind stay.
    pub widths: Widths,
    /// Whether the linear layers of the blocks get biases that the original does not have.
    pub biases: bool,
}

/// What may go, the least important first.
#[derive(Clone, Copy, Debug)]
pub struct Ranked<'a> {
    /// Blocks.
    pub blocks: &'a [usize],
    /// Dimensions of the residual stream; empty where none go.
    pub dimensions: &'a [usize],
}

impl Shape {
    /// The original's widths.
    pub fn widths_of(config: &ModelConfig) -> Widths {
        Widths {
            layers: config.num_hidden_layers,
            key_value_heads: config.num_key_value_heads,
            queries_per_group: config.num_attention_heads / config.num_key_value_heads,
            channels: config.intermediate_size,
            hidden_size: config.hidden_size,
        }
    }

    /// These widths of a model, without what comes first among what may go.
    pub fn new(widths: Widths, config: &ModelConfig, ranked: Ranked<'_>) -> Self {
        let staying = |count: usize, kept: usize, ranked: &[usize]| -> Vec<usize> {
            let gone = &ranked[..count - kept];
            (0..count).filter(|index| !gone.contains(index)).collect()
        };
        let hidden = config.hidden_size;
        Self {
            layers: staying(config.num_hidden_layers, widths.layers, ranked.blocks),
            dimensions: (widths.hidden_size < hidden)
                .then(|| staying(hidden, widths.hidden_size, ranked.dimensions)),
            widths,
            biases: false,
        }
    }

    /// What stays of the rows and columns that are dimensions of the residual stream; a norm's values are rows.
    pub fn staying(&self, role: Role) -> Staying<'_> {
        let dimensions = self.dimensions.as_deref();
        match role {
            Role::InputNorm | Role::PostNorm | Role::FinalNorm => (dimensions, None),
            Role::Output | Role::OutputBias | Role::Down | Role::DownBias => (dimensions, None),
            Role::TokenEmbedding | Role::Head => (None, dimensions),
            Role::Query | Role::Key | Role::Value | Role::Gate | Role::Up => (None, dimensions),
            // what else there is has other widths, or is of families whose stream stays
            _ => (None, None),
        }
    }

    /// Dimensions of the original's stream for each that stays. With the others zero the mean square over those that stay is so many
    /// times the original's: an RMSNorm whose weights are multiplied by this one's root, and whose epsilon by this, gives what the
    /// original gave, as γ √r x / √(r m + r ε) = γ x / √(m + ε).
    pub fn narrowing(&self, config: &ModelConfig) -> f64 {
        config.hidden_size as f64 / self.widths.hidden_size as f64
    }

    /// The configuration of what remains of a model.
    pub fn narrowed(&self, config: &ModelConfig) -> ModelConfig {
        ModelConfig {
            hidden_size: self.widths.hidden_size,
            rms_norm_eps: config.rms_norm_eps * self.narrowing(config),
            intermediate_size: self.widths.channels,
            num_hidden_layers: self.layers.len(),
            num_attention_heads: self.widths.query_heads(),
            num_key_value_heads: self.widths.key_value_heads,
            sliding_window: self.layers.iter().map(|layer| config.sliding_window[*layer]).collect(),
            qkv_bias: config.qkv_bias || self.biases,
            output_bias: config.output_bias || self.biases,
            mlp_bias: config.mlp_bias || self.biases,
            rotation: self.layers.iter().map(|layer| config.rotation[*layer]).collect(),
            ..config.clone()
        }
    }

    /// The same for its `config.json`.
    pub fn dimensions(&self, config: &ModelConfig) -> Dimensions {
        let narrowed = self.narrowed(config);
        Dimensions {
            hidden_size: narrowed.hidden_size,
            rms_norm_eps: narrowed.rms_norm_eps,
            intermediate_size: narrowed.intermediate_size,
            num_attention_heads: narrowed.num_attention_heads,
            num_key_value_heads: narrowed.num_key_value_heads,
            head_dim: config.head_dim,
            layers: self.layers.clone(),
            biases: self.biases,
        }
    }
}
