//! What a tensor is for, told from its GGUF name.

use serde::{Deserialize, Serialize};
use slmc_gguf::TensorType;

/// What the plan knows about a tensor before reading it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorFacts {
    /// GGUF name, for example `blk.3.attn_v.weight`.
    pub name: String,
    /// Dimensions, outermost first: `[d_out, d_in]`, or `[d]`.
    pub shape: Vec<usize>,
    /// Precision of the source: F32, F16 or BF16. Tensors that are kept are stored in it.
    #[serde(with = "crate::plan::type_name")]
    pub source: TensorType,
}

impl TensorFacts {
    /// Length of a row, d_in; 0 for a tensor without dimensions.
    pub fn columns(&self) -> usize {
        self.shape.last().copied().unwrap_or(0)
    }

    /// Dimensions left when outer dimensions of 1 are dropped (ggml counts them so: `ggml_n_dims`).
    pub fn rank(&self) -> usize {
        self.shape.len() - self.shape.iter().take_while(|&&d| d == 1).count()
    }

    /// Whether a mix may give it another type than F32: a matrix, named `….weight`, and no norm.
    ///
    /// Source: `tensor_allows_quantization` in llama.cpp's `llama-quant.cpp`, as far as slmc's model families go.
    pub fn is_quantizable(&self) -> bool {
        self.rank() >= 2 && self.name.ends_with("weight") && !self.name.contains("_norm.weight")
    }

    /// Number of the block in `blk.N.…`.
    pub fn layer(&self) -> Option<usize> {
        self.name.strip_prefix("blk.")?.split_once('.')?.0.parse().ok()
    }
}

/// The kinds of tensors that mixes tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Category {
    /// `token_embd.weight`.
    TokenEmbedding,
    /// `output.weight`, the language-model head.
    Head,
    /// `attn_v.weight`, and `attn_qkv.weight`, which holds query, key and value: llama-quantize has one rule for both.
    AttentionValue,
    /// `attn_output.weight`.
    AttentionOutput,
    /// `ffn_down.weight`.
    FeedForwardDown,
    /// Every other matrix: query, key, gate, up.
    Other,
}

impl Category {
    /// The category of a tensor with this GGUF name. Source: `tensor_get_category` in `llama-quant.cpp`.
    pub fn of(name: &str) -> Self {
        if name == "output.weight" {
            Self::Head
        } else if name == "token_embd.weight" {
            Self::TokenEmbedding
        } else if name.contains("attn_v.weight") || name.contains("attn_qkv.weight") {
            Self::AttentionValue
        } else if name.contains("attn_output.weight") {
            Self::AttentionOutput
        } else if name.contains("ffn_down") {
            Self::FeedForwardDown
        } else {
            Self::Other
        }
    }
}
