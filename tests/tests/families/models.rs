//! Small checkpoints with random weights, of every family and with any tokenizer.

#![allow(dead_code)] // not every test program uses everything

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use slmc_checkpoint::{CheckpointPlan, CheckpointWriter, Config, Dtype, ExistingTarget, TensorSpec};
use slmc_model::{ModelConfig, TensorId};
use slmc_pipeline::jobs::quantize::{BatchOptions, JobSettings, Mix, Prepared, QuantizeSettings, TextSource};
use slmc_pipeline::jobs::structured::{Asked, PreparedStructured, StructuredImportance, StructuredSettings};
use slmc_pipeline::progress::Silent;

use crate::forward::noise;

/// Columns of every matrix but `down_proj`; divisible by a super-block.
const HIDDEN: usize = 256;
const INTERMEDIATE: usize = 512;
const LAYERS: usize = 2;

/// A family, or a variant of one that is written differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Llama,
    /// Llama 3's RoPE scaling, an explicit head size, tied embeddings.
    Llama3,
    /// Linear RoPE scaling, biases.
    LlamaLinear,
    Mistral,
    Ministral,
    Qwen2,
    /// Qwen 2 with tied embeddings.
    Qwen2Tied,
    Qwen3,
    Phi3,
    /// A part of each head rotated, frequencies stretched by the list for long contexts.
    Phi4Mini,
    Gemma2,
    /// Layers with a window in another order than llama.cpp takes for granted.
    Gemma3,
    SmolLm3,
    Granite,
    Olmo2,
    Exaone4,
}

impl Family {
    pub const ALL: [Self; 16] = [
        Self::Llama,
        Self::Llama3,
        Self::LlamaLinear,
        Self::Mistral,
        Self::Ministral,
        Self::Qwen2,
        Self::Qwen2Tied,
        Self::Qwen3,
        Self::Phi3,
        Self::Phi4Mini,
        Self::Gemma2,
        Self::Gemma3,
        Self::SmolLm3,
        Self::Granite,
        Self::Olmo2,
        Self::Exaone4,
    ];

    fn config(self, vocab_size: usize) -> Value {
        let mut config = json!({
            "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": vocab_size,
            "pad_token_id": null,
            "hidden_size": HIDDEN, "intermediate_size": INTERMEDIATE, "num_hidden_layers": LAYERS,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
            "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": false,
            "torch_dtype": "float32",
        });
        let changes = match self {
            Self::Llama => json!({}),
            Self::Llama3 => json!({"head_dim": 128, "tie_word_embeddings": true, "rope_scaling": {
                "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64}}),
            Self::LlamaLinear => json!({"attention_bias": true, "mlp_bias": true, "rope_theta": 5000.0,
                "rope_scaling": {"type": "linear", "factor": 4.0}}),
            Self::Mistral => json!({"model_type": "mistral", "architectures": ["MistralForCausalLM"],
                "sliding_window": null, "rope_theta": 1000000.0}),
            Self::Ministral => json!({"model_type": "ministral", "architectures": ["MinistralForCausalLM"],
                "sliding_window": 1024, "rope_theta": 1000000.0, "head_dim": 32}),
            Self::Qwen2 | Self::Qwen2Tied => {
                json!({"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"],
                "rope_theta": 1000000.0, "tie_word_embeddings": matches!(self, Self::Qwen2Tied)})
            }
            Self::Qwen3 => json!({"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"],
                "head_dim": 128, "rope_theta": 1000000.0, "tie_word_embeddings": true}),
            Self::Phi3 => json!({"model_type": "phi3", "architectures": ["Phi3ForCausalLM"],
                "sliding_window": null}),
            Self::Phi4Mini => {
                let factors = |slope: f64| (0..24).map(|i| 1.0 + slope * f64::from(i)).collect::<Vec<_>>();
                json!({"model_type": "phi3", "architectures": ["Phi3ForCausalLM"], "sliding_window": null,
                "tie_word_embeddings": true, "partial_rotary_factor": 0.75,
                "original_max_position_embeddings": 64, "rope_scaling": {"type": "longrope",
                    "short_factor": factors(0.01), "long_factor": factors(0.5)}})
            }
            Self::Gemma2 => json!({"model_type": "gemma2", "architectures": ["Gemma2ForCausalLM"],
                "head_dim": 128, "query_pre_attn_scalar": 128, "sliding_window": 40,
                "hidden_activation": "gelu_pytorch_tanh", "attn_logit_softcapping": 5.0,
                "final_logit_softcapping": 3.0, "tie_word_embeddings": true}),
            Self::Gemma3 => json!({"model_type": "gemma3_text", "architectures": ["Gemma3ForCausalLM"],
                "head_dim": 128, "query_pre_attn_scalar": 128, "sliding_window": 40,
                "layer_types": ["sliding_attention", "full_attention"], "rope_theta": 1000000.0,
                "rope_local_base_freq": 5000.0, "rope_scaling": {"rope_type": "linear", "factor": 8.0},
                "hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": true}),
            Self::SmolLm3 => json!({"model_type": "smollm3", "architectures": ["SmolLM3ForCausalLM"],
                "num_hidden_layers": 4, "tie_word_embeddings": true}),
            Self::Granite => json!({"model_type": "granite", "architectures": ["GraniteForCausalLM"],
                "embedding_multiplier": 12.0, "residual_multiplier": 0.22, "attention_multiplier": 0.0625,
                "logits_scaling": 8.0, "tie_word_embeddings": true}),
            Self::Olmo2 => json!({"model_type": "olmo2", "architectures": ["Olmo2ForCausalLM"]}),
            Self::Exaone4 => json!({"model_type": "exaone4", "architectures": ["Exaone4ForCausalLM"],
                "layer_types": vec!["full_attention"; LAYERS],
                "sliding_window": null, "tie_word_embeddings": true}),
        };
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        config
    }

    /// Names and shapes of all tensors, as the golden checkpoints of transformers' own classes have them. Their order decides the
    /// random weights: what is outside the blocks first, then the norms of each block before its other tensors.
    fn tensors(config: &Value) -> Vec<(String, Vec<usize>)> {
        let config = ModelConfig::from_checkpoint(&Config::from_json(config).unwrap()).unwrap();
        let mut tensors = config.tensors();
        tensors.sort_by_key(|id| (id.layer, id.layer.is_some() && !id.role.is_norm()));
        let of = |id: TensorId| (config.arch.hf_name(id).unwrap(), config.shape(id.role));
        tensors.into_iter().map(of).collect()
    }

    pub fn is_gemma(self) -> bool {
        matches!(self, Self::Gemma2 | Self::Gemma3)
    }

    /// Writes a checkpoint of this family with random weights and the given tokenizer to `dir`.
    pub fn write(self, dir: &Path, tokenizer: &Value, tokenizer_config: &Value) {
        let vocab = &tokenizer["model"]["vocab"];
        let tokens = vocab.as_object().map_or_else(|| vocab.as_array().unwrap().len(), |tokens| tokens.len());
        let added = tokenizer["added_tokens"].as_array().unwrap();
        let largest = added.iter().filter_map(|t| t["id"].as_u64()).max().unwrap_or(0) as usize;
        let vocab_size = tokens.max(largest + 1).next_multiple_of(32);
        let config = self.config(vocab_size);
        let tensors = Self::tensors(&config);
        let specs = tensors.iter().map(|(name, shape)| TensorSpec {
            name: name.clone(),
            dtype: Dtype::F32,
            shape: shape.clone(),
        });
        let plan = CheckpointPlan::new(specs.collect(), u64::MAX).unwrap();
        let mut writer = CheckpointWriter::create(dir, plan, ExistingTarget::Refuse).unwrap();
        for (seed, (name, shape)) in tensors.iter().enumerate() {
            // Large enough for attention to be far from uniform.
            let (centre, spread) = match shape[..] {
                [_, columns] => (0.0, 2.0 / (columns as f32).sqrt()),
                // Gemma stores the weights of norms without their 1.
                _ if name.ends_with("norm.weight") => (if self.is_gemma() { 0.0 } else { 1.0 }, 0.3),
                _ => (0.0, 0.3),
            };
            let values = noise(shape.iter().product(), seed as u64 + 1);
            let values: Vec<f32> = values.iter().map(|v| centre + spread * v).collect();
            writer.write_f32(name, &values).unwrap();
        }
        writer.write_config(&config).unwrap();
        writer.write_json("tokenizer.json", tokenizer).unwrap();
        writer.write_json("tokenizer_config.json", tokenizer_config).unwrap();
        writer.finish().unwrap();
    }
}

/// Quantizes the checkpoint `model` by rounding to nearest and returns the file.
pub fn quantize(model: &Path, mix: Mix, pre: Option<&str>) -> PathBuf {
    let output = model.with_extension(format!("{mix}.gguf"));
    let settings =
        QuantizeSettings::conversion(model.to_owned(), mix, output.clone(), pre.map(str::to_owned));
    Prepared::new(settings).unwrap().run(&Silent).unwrap();
    output
}

/// What can be cut out of every family, one after the other: heads and blocks, queries, dimensions of the residual stream; and whether
/// biases make up for it.
pub fn cuts(family: Family) -> Vec<(Asked, bool)> {
    let heads = Asked { key_value_heads: Some(1), channels: Some(384), layers: Some(1), ..Asked::default() };
    let queries = Asked { query_heads: Some(2), channels: Some(320), ..Asked::default() };
    let narrow = Asked { hidden_size: Some(192), channels: Some(384), ..Asked::default() };
    let heads_stay = |asked| Asked { key_value_heads: None, query_heads: None, ..asked };
    match family {
        Family::Qwen2
        | Family::Qwen2Tied
        | Family::Phi3
        | Family::Phi4Mini
        | Family::Olmo2
        | Family::Exaone4 => vec![(heads_stay(heads), false), (heads_stay(queries), false)],
        Family::Mistral | Family::Ministral | Family::Qwen3 | Family::Granite => {
            vec![(heads, false), (queries, false), (narrow, false)]
        }
        Family::Gemma2 | Family::Gemma3 => vec![(heads, false), (queries, false)],
        Family::SmolLm3 => vec![(Asked { layers: None, ..heads }, false), (queries, false), (narrow, false)],
        Family::Llama | Family::Llama3 | Family::LlamaLinear => {
            vec![(heads, false), (queries, true), (narrow, false), (narrow, true)]
        }
    }
}

/// The checkpoint `model` without what is not asked for.
pub fn cut(model: &Path, asked: Asked, compensates: bool) -> PathBuf {
    let output = model.with_extension("cut");
    let settings = StructuredSettings {
        job: JobSettings {
            calibration: vec!["bundled:english".parse::<TextSource>().unwrap()],
            batches: BatchOptions { samples: 8, seq_len: 64, ..Default::default() },
            ..JobSettings::new(model.to_owned(), output.clone())
        },
        budget: None,
        asked,
        kinds: Vec::new(),
        importance: StructuredImportance::Hessian,
        solves: true,
        compensates,
        effort: Default::default(),
        keep_layers: Vec::new(),
        multiple: None,
        scores: None,
        gguf: None,
    };
    let planned = PreparedStructured::new(settings).unwrap().planned(&Silent).unwrap();
    planned.run(&Silent).unwrap();
    output
}
