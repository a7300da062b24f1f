//! The size of the model that remains.

use serde::{Deserialize, Serialize};
use slmc_checkpoint::config::Dimensions;
use slmc_model::ModelConfig;
use slmc_prune::structured::Widths;

/// The blocks that stay, and their widths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Blocks of the original, ascending.
    pub layers: Vec<usize>,
    /// How many of each kind stay.
    pub widths: Widths,
}

impl Shape {
    /// The original's widths.
    pub fn widths_of(config: &ModelConfig) -> Widths {
        Widths {
            layers: config.num_hidden_layers,
            key_value_heads: config.num_key_value_heads,
            queries_per_group: config.num_attention_heads / config.num_key_value_heads,
            channels: config.intermediate_size,
        }
    }

    /// These widths, without the blocks that come first in `dispensable`.
    pub fn new(widths: Widths, blocks: usize, dispensable: &[usize]) -> Self {
        let gone = &dispensable[..blocks - widths.layers];
        Self { layers: (0..blocks).filter(|layer| !gone.contains(layer)).collect(), widths }
    }

    /// The configuration of what remains of a model.
    pub fn narrowed(&self, config: &ModelConfig) -> ModelConfig {
        ModelConfig {
            intermediate_size: self.widths.channels,
            num_hidden_layers: self.layers.len(),
            num_attention_heads: self.widths.query_heads(),
            num_key_value_heads: self.widths.key_value_heads,
            sliding_window: self.layers.iter().map(|layer| config.sliding_window[*layer]).collect(),
            rotation: self.layers.iter().map(|layer| config.rotation[*layer]).collect(),
            ..config.clone()
        }
    }

    /// The same for its `config.json`.
    pub fn dimensions(&self, config: &ModelConfig) -> Dimensions {
        Dimensions {
            intermediate_size: self.widths.channels,
            num_attention_heads: self.widths.query_heads(),
            num_key_value_heads: self.widths.key_value_heads,
            head_dim: config.head_dim,
            layers: self.layers.clone(),
        }
    }
}
