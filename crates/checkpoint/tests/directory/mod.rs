//! Checkpoint directories made by hand, byte by byte, so that anything can be wrong in them.

#![allow(dead_code)] // each test file uses its part

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use slmc_checkpoint::{Checkpoint, CheckpointError};
use tempfile::TempDir;

/// A small llama's `config.json`.
pub fn config() -> Value {
    json!({
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": 16,
        "hidden_size": 8,
        "intermediate_size": 12,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "bos_token_id": 1,
        "eos_token_id": [2, 3],
        "torch_dtype": "bfloat16",
    })
}

/// A safetensors file from the text of its header and its data.
pub fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend_from_slice(data);
    file
}

/// A checkpoint directory that goes away with the value.
pub struct Directory {
    dir: TempDir,
}

impl Directory {
    pub fn new() -> Self {
        let this = Self { dir: tempfile::tempdir().unwrap() };
        this.write("config.json", config().to_string().as_bytes());
        this
    }

    /// With one weight file.
    pub fn with_model(file: &[u8]) -> Self {
        let this = Self::new();
        this.write("model.safetensors", file);
        this
    }

    /// With an index and the shards `a.safetensors`, `b.safetensors`: tensors x and y, one in each.
    pub fn with_shards(weight_map: &str) -> Self {
        let this = Self::new();
        this.write("model.safetensors.index.json", weight_map.as_bytes());
        this.write("a.safetensors", &safetensors(&entry("x", "F32", "[1]", 0, 4), &[0; 4]));
        this.write("b.safetensors", &safetensors(&entry("y", "F32", "[1]", 0, 4), &[0; 4]));
        this
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn write(&self, name: &str, contents: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, contents).unwrap();
        path
    }

    pub fn open(&self) -> Result<Checkpoint, CheckpointError> {
        Checkpoint::open(self.path())
    }

    /// The error of opening it, whose message names the file or directory.
    pub fn error(&self) -> CheckpointError {
        let error = self.open().expect_err("a corrupt checkpoint was opened");
        let shown = error.to_string();
        assert!(shown.contains(self.path().to_str().unwrap()), "{shown}");
        error
    }
}

/// The header of a file with one tensor.
pub fn entry(name: &str, dtype: &str, shape: &str, begin: u64, end: u64) -> String {
    format!("{{{}}}", member(name, dtype, shape, begin, end))
}

/// One tensor's member of a header.
pub fn member(name: &str, dtype: &str, shape: &str, begin: u64, end: u64) -> String {
    format!("\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":[{begin},{end}]}}")
}
