//! Small random checkpoints of each family, with the bundled model's tokenizer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

/// Width of the residual stream: one K-quant super-block.
const HIDDEN: usize = 256;
const INNER: usize = 512;
const HEADS: usize = 4;
const KEY_VALUE_HEADS: usize = 2;
const HEAD_DIM: usize = 64;
const LAYERS: usize = 2;
const VOCAB: usize = 2048;

/// The bundled model.
pub fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ stands in the workspace")
        .join("models/tiny")
}

/// A model family and what is special about this checkpoint of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Tied head, default RoPE.
    Llama,
    /// A head of its own, llama3 RoPE scaling.
    Llama3,
    /// Linear RoPE scaling.
    LlamaLinear,
    /// A sliding window longer than any test.
    Mistral,
    /// Biases on Q, K and V.
    Qwen2,
}

impl Family {
    /// Every family.
    pub const ALL: [Family; 5] =
        [Family::Llama, Family::Llama3, Family::LlamaLinear, Family::Mistral, Family::Qwen2];

    fn config(self) -> Value {
        let mut config = json!({
            "hidden_size": HIDDEN, "intermediate_size": INNER, "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS, "num_key_value_heads": KEY_VALUE_HEADS, "head_dim": HEAD_DIM,
            "vocab_size": VOCAB, "max_position_embeddings": 1024, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
            "hidden_act": "silu", "tie_word_embeddings": self != Family::Llama3, "torch_dtype": "float32",
            "bos_token_id": 0, "eos_token_id": 0,
        });
        let (model_type, class) = match self {
            Family::Mistral => ("mistral", "MistralForCausalLM"),
            Family::Qwen2 => ("qwen2", "Qwen2ForCausalLM"),
            _ => ("llama", "LlamaForCausalLM"),
        };
        config["model_type"] = model_type.into();
        config["architectures"] = json!([class]);
        match self {
            Family::Llama3 => {
                config["rope_scaling"] = json!({
                    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 64,
                });
            }
            Family::LlamaLinear => config["rope_scaling"] = json!({ "type": "linear", "factor": 2.0 }),
            Family::Mistral => config["sliding_window"] = 4096.into(),
            _ => {}
        }
        config
    }

    fn tensors(self) -> Vec<(String, Vec<usize>)> {
        let (query, key_value) = (HEADS * HEAD_DIM, KEY_VALUE_HEADS * HEAD_DIM);
        let mut tensors = vec![("model.embed_tokens.weight".to_owned(), vec![VOCAB, HIDDEN])];
        for layer in 0..LAYERS {
            let mut add = |name: &str, shape: &[usize]| {
                tensors.push((format!("model.layers.{layer}.{name}"), shape.to_vec()));
            };
            add("input_layernorm.weight", &[HIDDEN]);
            for (name, rows) in [("q", query), ("k", key_value), ("v", key_value)] {
                add(&format!("self_attn.{name}_proj.weight"), &[rows, HIDDEN]);
                if self == Family::Qwen2 {
                    add(&format!("self_attn.{name}_proj.bias"), &[rows]);
                }
            }
            add("self_attn.o_proj.weight", &[HIDDEN, query]);
            add("post_attention_layernorm.weight", &[HIDDEN]);
            add("mlp.gate_proj.weight", &[INNER, HIDDEN]);
            add("mlp.up_proj.weight", &[INNER, HIDDEN]);
            add("mlp.down_proj.weight", &[HIDDEN, INNER]);
        }
        tensors.push(("model.norm.weight".to_owned(), vec![HIDDEN]));
        if self == Family::Llama3 {
            tensors.push(("lm_head.weight".to_owned(), vec![VOCAB, HIDDEN]));
        }
        tensors
    }

    /// Writes the checkpoint into `directory`: random weights from `seed`, float32.
    pub fn write(self, directory: &Path, seed: u64) {
        std::fs::create_dir_all(directory).unwrap();
        let mut random = Random(seed.wrapping_mul(2).wrapping_add(1));
        let mut data = BTreeMap::new();
        for (name, shape) in self.tensors() {
            let count: usize = shape.iter().product();
            let norm = name.contains("norm");
            let scale = 1.0 / (shape.last().copied().unwrap_or(1) as f32).sqrt();
            let bytes: Vec<u8> = (0..count)
                .map(|_| if norm { 1.0 + 0.2 * random.normal() } else { scale * random.normal() })
                .flat_map(f32::to_le_bytes)
                .collect();
            data.insert(name, (shape, bytes));
        }
        let views = data.iter().map(|(name, (shape, bytes))| {
            (name, TensorView::new(Dtype::F32, shape.clone(), bytes).expect("shape and bytes agree"))
        });
        safetensors::serialize_to_file(views, None, &directory.join("model.safetensors")).unwrap();
        std::fs::write(directory.join("config.json"), self.config().to_string()).unwrap();
        for file in ["tokenizer.json", "tokenizer_config.json"] {
            std::fs::copy(tiny().join(file), directory.join(file)).unwrap();
        }
    }
}

/// A small generator whose numbers are the same everywhere (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Nearly normal: the sum of twelve uniform numbers, less six.
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| (self.next() >> 40) as f32 / (1u32 << 24) as f32).sum::<f32>() - 6.0
    }
}
