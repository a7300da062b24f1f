//! A configuration from `config.json`.

use slmc_checkpoint::Config;
use slmc_checkpoint::config::{LayerType, RopeScaling as FileScaling};

use super::scales::Scales;
use super::{ConfigError, ModelConfig, RopeScaling, Rotation, bias_exists, supported};
use crate::arch::{Activation, ArchSpec, Scaling};
use crate::ops::LogitTransform;

impl ModelConfig {
    /// The configuration of a checkpoint.
    ///
    /// # Errors
    /// A family, activation, RoPE scaling or attention that the decoder does not carry.
    pub fn from_checkpoint(config: &Config) -> Result<Self, ConfigError> {
        let arch = family(config)?;
        if Activation::from_hf(&config.hidden_act) != Some(arch.activation) {
            return Err(unsupported("hidden_act", &config.hidden_act, arch.activation.hf_name()));
        }
        if config.use_bidirectional_attention {
            return Err(unsupported(
                "use_bidirectional_attention",
                "true",
                "false: a model that writes text",
            ));
        }
        let share = config.partial_rotary_factor.unwrap_or(1.0);
        if share > 1.0 || (share != 1.0 && !arch.long_rope) {
            return Err(unsupported("partial_rotary_factor", &share.to_string(), "1"));
        }
        if !config.head_dim.is_multiple_of(2) {
            return Err(unsupported("head_dim", &config.head_dim.to_string(), "an even number"));
        }
        let rotary_dim = (config.head_dim as f64 * share) as usize;
        if rotary_dim == 0 || !rotary_dim.is_multiple_of(2) {
            let found = format!("{share}, which is {rotary_dim} of {} components", config.head_dim);
            return Err(unsupported("partial_rotary_factor", &found, "an even number of components above 0"));
        }
        if let Some(LayerType::Other(kind)) =
            config.layer_types.iter().flatten().find(|kind| matches!(kind, LayerType::Other(_)))
        {
            return Err(unsupported("layer_types", kind, "full_attention or sliding_attention"));
        }
        let layers = 0..config.num_hidden_layers;
        let window = |layer| config.sliding_window_of(layer).filter(|_| arch.sliding_window);
        let slides = |layer: usize| {
            config.layer_types.as_ref().is_some_and(|types| types[layer] == LayerType::SlidingAttention)
        };
        let rotation = |layer: usize| match (&config.rotated_layers, config.local_rope_theta) {
            (Some(rotated), _) if !rotated[layer] => Rotation::None,
            (_, Some(_)) if slides(layer) => Rotation::Local,
            _ => Rotation::Global,
        };
        let scales = scales(config, arch.scaling);
        Ok(Self {
            arch,
            vocab_size: config.vocab_size,
            hidden_size: config.hidden_size,
            intermediate_size: config.intermediate_size,
            num_hidden_layers: config.num_hidden_layers,
            num_attention_heads: config.num_attention_heads,
            num_key_value_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            activation: arch.activation,
            rms_norm_eps: config.rms_norm_eps,
            rope_theta: config.rope_theta,
            rope_scaling: rope_scaling(config, arch, rotary_dim)?,
            local_rope_theta: config.local_rope_theta.unwrap_or(config.rope_theta),
            rotary_dim,
            rotation: layers.clone().map(rotation).collect(),
            max_position_embeddings: config.max_position_embeddings,
            sliding_window: layers.map(window).collect(),
            attention_scale: scales.attention,
            attention_softcap: scales.attention_softcap,
            embedding_scale: scales.embedding,
            residual_scale: scales.residual,
            logits: scales.logits,
            tie_word_embeddings: config.tie_word_embeddings,
            qkv_bias: bias_exists(arch.qkv_bias, config.attention_bias, config.mlp_bias),
            output_bias: bias_exists(arch.output_bias, config.attention_bias, config.mlp_bias),
            mlp_bias: bias_exists(arch.mlp_bias, config.attention_bias, config.mlp_bias),
        })
    }
}

/// The family, which must be a dense one.
fn family(config: &Config) -> Result<&'static ArchSpec, ConfigError> {
    if config.experts.is_some() || config.model_type.contains("moe") {
        let found = match config.experts {
            Some(experts) => format!("{:?}, {experts} experts", config.model_type),
            None => format!("{:?}", config.model_type),
        };
        return Err(ConfigError::MixtureOfExperts { field: "model_type".to_owned(), found });
    }
    ArchSpec::by_model_type(&config.model_type).ok_or_else(|| ConfigError::UnsupportedArchitecture {
        field: "model_type",
        found: config.model_type.clone(),
        supported: supported(|arch| arch.model_type),
    })
}

fn scales(config: &Config, scaling: Scaling) -> Scales {
    let (of, plain) = (&config.scales, Scales::plain(config.head_dim));
    match scaling {
        Scaling::Plain => plain,
        Scaling::Gemma => Scales {
            attention: of.query_pre_attn_scalar.unwrap_or(config.head_dim as f64).sqrt().recip(),
            attention_softcap: of.attn_logit_softcapping,
            embedding: (config.hidden_size as f64).sqrt(),
            logits: LogitTransform { scale: 1.0, softcap: of.final_logit_softcapping.map(|cap| cap as f32) },
            ..plain
        },
        Scaling::Granite => Scales {
            attention: of.attention_multiplier.unwrap_or(1.0),
            embedding: of.embedding_multiplier.unwrap_or(1.0),
            residual: of.residual_multiplier.unwrap_or(1.0),
            logits: LogitTransform { scale: of.logits_scaling.unwrap_or(1.0).recip() as f32, softcap: None },
            ..plain
        },
    }
}

fn rope_scaling(config: &Config, arch: &ArchSpec, rotary_dim: usize) -> Result<RopeScaling, ConfigError> {
    Ok(match &config.rope_scaling {
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
        FileScaling::LongRope { .. } if !arch.long_rope => {
            return Err(unsupported("rope_scaling.rope_type", "longrope", "default, linear or llama3"));
        }
        FileScaling::LongRope {
            short_factor,
            long_factor,
            attention_factor,
            original_max_position_embeddings,
        } => {
            let factors = |field: &str, factors: &[f64]| {
                if factors.len() != rotary_dim / 2 {
                    let found = format!("a list of {}", factors.len());
                    let expected = format!("one for each of {} frequencies", rotary_dim / 2);
                    return Err(unsupported(field, &found, &expected));
                }
                Ok(factors.iter().map(|factor| *factor as f32).collect())
            };
            RopeScaling::LongRope {
                short: factors("rope_scaling.short_factor", short_factor)?,
                long: factors("rope_scaling.long_factor", long_factor)?,
                attention_factor: *attention_factor,
                original_max_position_embeddings: *original_max_position_embeddings,
            }
        }
        FileScaling::Other(kind) => {
            let expected = if arch.long_rope { "default or longrope" } else { "default, linear or llama3" };
            return Err(unsupported("rope_scaling.rope_type", kind, expected));
        }
    })
}

fn unsupported(field: &str, found: &str, expected: &str) -> ConfigError {
    ConfigError::Unsupported {
        field: field.to_owned(),
        found: found.to_owned(),
        expected: expected.to_owned(),
    }
}
