//! A configuration from `config.json`.

use slmc_checkpoint::Config;
use slmc_checkpoint::config::{LayerType, RopeScaling as FileScaling};

use super::{ConfigError, ModelConfig, RopeScaling, bias_exists, supported};
use crate::arch::{Activation, ArchSpec};

impl ModelConfig {
    /// The configuration of a checkpoint.
    ///
    /// # Errors
    /// A family, activation, RoPE scaling or attention that the decoder does not carry.
    pub fn from_checkpoint(config: &Config) -> Result<Self, ConfigError> {
        let arch = ArchSpec::by_model_type(&config.model_type).ok_or_else(|| {
            ConfigError::UnsupportedArchitecture {
                field: "model_type",
                found: config.model_type.clone(),
                supported: supported(|arch| arch.model_type),
            }
        })?;
        let unsupported = |field: &str, found: &str, expected: &str| ConfigError::Unsupported {
            field: field.to_owned(),
            found: found.to_owned(),
            expected: expected.to_owned(),
        };
        let activation = Activation::from_hf(&config.hidden_act)
            .ok_or_else(|| unsupported("hidden_act", &config.hidden_act, "silu"))?;
        if let Some(share) = config.partial_rotary_factor.filter(|&share| share != 1.0) {
            return Err(unsupported("partial_rotary_factor", &share.to_string(), "1"));
        }
        if !config.head_dim.is_multiple_of(2) {
            return Err(unsupported("head_dim", &config.head_dim.to_string(), "an even number"));
        }
        let rope_scaling = match &config.rope_scaling {
            FileScaling::Default => RopeScaling::Default,
            &FileScaling::Linear { factor } => RopeScaling::Linear { factor },
            &FileScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            } => RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            },
            FileScaling::Other(kind) => {
                return Err(unsupported("rope_scaling.rope_type", kind, "default, linear or llama3"));
            }
        };
        if let Some(LayerType::Other(kind)) =
            config.layer_types.iter().flatten().find(|kind| matches!(kind, LayerType::Other(_)))
        {
            return Err(unsupported("layer_types", kind, "full_attention or sliding_attention"));
        }
        let window = |layer| config.sliding_window_of(layer).filter(|_| arch.sliding_window);
        Ok(Self {
            arch,
            vocab_size: config.vocab_size,
            hidden_size: config.hidden_size,
            intermediate_size: config.intermediate_size,
            num_hidden_layers: config.num_hidden_layers,
            num_attention_heads: config.num_attention_heads,
            num_key_value_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            activation,
            rms_norm_eps: config.rms_norm_eps,
            rope_theta: config.rope_theta,
            rope_scaling,
            max_position_embeddings: config.max_position_embeddings,
            sliding_window: (0..config.num_hidden_layers).map(window).collect(),
            tie_word_embeddings: config.tie_word_embeddings,
            qkv_bias: bias_exists(arch.qkv_bias, config.attention_bias, config.mlp_bias),
            output_bias: bias_exists(arch.output_bias, config.attention_bias, config.mlp_bias),
            mlp_bias: bias_exists(arch.mlp_bias, config.attention_bias, config.mlp_bias),
        })
    }
}
