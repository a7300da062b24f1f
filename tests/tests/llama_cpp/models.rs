//! Small checkpoints with random weights, of every family and with any tokenizer.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use slmc_checkpoint::{CheckpointPlan, CheckpointWriter, Dtype, ExistingTarget, TensorSpec};
use slmc_pipeline::jobs::quantize::{BatchOptions, Mix, Prepared, QuantizeSettings, TextSource};
use slmc_pipeline::jobs::structured::{Asked, PreparedStructured, StructuredImportance, StructuredSettings};
use slmc_pipeline::progress::Silent;

use crate::forward::noise;

/// Columns of every matrix but `down_proj`; divisible by a super-block.
const HIDDEN: usize = 256;
const INTERMEDIATE: usize = 512;
const LAYERS: usize = 2;

/// A family, or a variant of one that is written differently.
#[derive(Clone, Copy, Debug)]
pub enum Family {
    Llama,
    /// Llama 3's RoPE scaling, an explicit head size, tied embeddings.
    Llama3,
    /// Linear RoPE scaling, biases.
    LlamaLinear,
    Mistral,
    Qwen2,
    /// Qwen 2 with tied embeddings.
    Qwen2Tied,
}

impl Family {
    pub const ALL: [Self; 6] =
        [Self::Llama, Self::Llama3, Self::LlamaLinear, Self::Mistral, Self::Qwen2, Self::Qwen2Tied];

    fn config(self, vocab_size: usize) -> Value {
        let mut config = json!({
            "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": vocab_size,
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
            Self::Qwen2 | Self::Qwen2Tied => {
                json!({"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"],
                "rope_theta": 1000000.0, "tie_word_embeddings": matches!(self, Self::Qwen2Tied)})
            }
        };
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        config
    }

    fn has_bias(self, matrix: &str) -> bool {
        match self {
            Self::LlamaLinear => true,
            Self::Qwen2 | Self::Qwen2Tied => matches!(matrix, "q_proj" | "k_proj" | "v_proj"),
            _ => false,
        }
    }

    /// Names and shapes of all tensors.
    fn tensors(self, config: &Value) -> Vec<(String, Vec<usize>)> {
        let size = |key: &str| config[key].as_u64().unwrap() as usize;
        let head_dim =
            config["head_dim"].as_u64().map_or(HIDDEN / size("num_attention_heads"), |d| d as usize);
        let (q, kv) = (size("num_attention_heads") * head_dim, size("num_key_value_heads") * head_dim);
        let mut tensors = vec![
            ("model.embed_tokens.weight".to_owned(), vec![size("vocab_size"), HIDDEN]),
            ("model.norm.weight".to_owned(), vec![HIDDEN]),
        ];
        if config["tie_word_embeddings"] == false {
            tensors.push(("lm_head.weight".to_owned(), vec![size("vocab_size"), HIDDEN]));
        }
        for layer in 0..LAYERS {
            for norm in ["input_layernorm", "post_attention_layernorm"] {
                tensors.push((format!("model.layers.{layer}.{norm}.weight"), vec![HIDDEN]));
            }
            for (part, matrix, rows, columns) in [
                ("self_attn", "q_proj", q, HIDDEN),
                ("self_attn", "k_proj", kv, HIDDEN),
                ("self_attn", "v_proj", kv, HIDDEN),
                ("self_attn", "o_proj", HIDDEN, q),
                ("mlp", "gate_proj", INTERMEDIATE, HIDDEN),
                ("mlp", "up_proj", INTERMEDIATE, HIDDEN),
                ("mlp", "down_proj", HIDDEN, INTERMEDIATE),
            ] {
                let name = format!("model.layers.{layer}.{part}.{matrix}");
                tensors.push((format!("{name}.weight"), vec![rows, columns]));
                if self.has_bias(matrix) {
                    tensors.push((format!("{name}.bias"), vec![rows]));
                }
            }
        }
        tensors
    }

    /// Writes a checkpoint of this family with random weights and the given tokenizer to `dir`.
    pub fn write(self, dir: &Path, tokenizer: &Value, tokenizer_config: &Value) {
        let vocab = &tokenizer["model"]["vocab"];
        let tokens = vocab.as_object().map_or_else(|| vocab.as_array().unwrap().len(), |tokens| tokens.len());
        let added = tokenizer["added_tokens"].as_array().unwrap();
        let largest = added.iter().filter_map(|t| t["id"].as_u64()).max().unwrap_or(0) as usize;
        let vocab_size = tokens.max(largest + 1).next_multiple_of(32);
        let config = self.config(vocab_size);
        let tensors = self.tensors(&config);
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
                _ if name.ends_with("norm.weight") => (1.0, 0.3),
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
    match family {
        Family::Qwen2 | Family::Qwen2Tied => {
            vec![(Asked { layers: Some(1), channels: Some(384), ..Asked::default() }, false)]
        }
        Family::Mistral => vec![(heads, false), (queries, false), (narrow, false)],
        Family::Llama | Family::Llama3 | Family::LlamaLinear => {
            vec![(heads, false), (queries, true), (narrow, false), (narrow, true)]
        }
    }
}

/// The checkpoint `model` without what is not asked for.
pub fn cut(model: &Path, asked: Asked, compensates: bool) -> PathBuf {
    let output = model.with_extension("cut");
    let settings = StructuredSettings {
        model: model.to_owned(),
        text_only: false,
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
        calibration: vec!["bundled:english".parse::<TextSource>().unwrap()],
        batches: BatchOptions { samples: 8, seq_len: 64, ..Default::default() },
        device: slmc_model::Device::Cpu,
        output: output.clone(),
        gguf: None,
        measure: None,
        max_memory: None,
        resume: false,
    };
    let planned = PreparedStructured::new(settings).unwrap().planned(&Silent).unwrap();
    planned.run(&Silent).unwrap();
    output
}
