//! What types chosen by measured cost shall reach.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What is to be kept, while the other is made as small as can be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// `--target-bpw`: stored bits a weight, as [`Plan::bits_per_weight`](super::Plan::bits_per_weight) counts them.
    BitsPerWeight(f64),
    /// `--target-size`: bytes of the whole file.
    FileBytes(u64),
    /// `--fallback measured`: the mix, in no more bytes than with llama-quantize's substitutes for what does not fit it.
    Mix,
    /// `--max-kl`: mean KL divergence per token from the float model, in nats.
    KlDivergence(f64),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BitsPerWeight(bits) => write!(f, "{bits} bits per weight"),
            Self::FileBytes(bytes) => write!(f, "{bytes} bytes"),
            Self::Mix => f.write_str("the mix's bytes"),
            Self::KlDivergence(kl) => write!(f, "KL divergence {kl}"),
        }
    }
}

/// What a plan whose types were chosen by measured cost is expected to lose.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// What was to be reached.
    pub target: Target,
    /// Mean KL divergence per token from the float model, in nats.
    pub kl_divergence: f64,
    /// The part of it that comes from rounding the inputs of products, as ggml does.
    pub kl_inputs: f64,
    /// Tokens that costs were measured on.
    pub tokens: usize,
}

/// The type of one tensor, chosen by measured cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AllocatedType {
    /// The type.
    pub ty: slmc_gguf::TensorType,
    /// What it costs in KL divergence, in nats per token.
    pub kl_divergence: f64,
}
