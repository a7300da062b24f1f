//! Mistral 7B: llama with a sliding window in every layer and no biases. Ministral: with a window in some layers.

use super::llama::SPEC;
use super::{ArchSpec, Bias};

/// GGUF calls it `llama`, and llama.cpp runs it without the window; so does a file read back from GGUF.
///
/// Source: transformers `modeling_mistral.py`; llama.cpp `conversion/llama.py`.
pub static MISTRAL: ArchSpec = ArchSpec {
    model_type: "mistral",
    hf_class: "MistralForCausalLM",
    qkv_bias: Bias::Never,
    output_bias: Bias::Never,
    mlp_bias: Bias::Never,
    sliding_window: true,
    ..SPEC
};

/// Which layers have the window is listed in the configuration. llama.cpp knows the class under no name of its own, but runs
/// the same tensors as `llama`, without the window.
///
/// Source: transformers `modeling_ministral.py`.
pub static MINISTRAL: ArchSpec = ArchSpec {
    model_type: "ministral",
    hf_class: "MinistralForCausalLM",
    qkv_bias: Bias::Never,
    output_bias: Bias::Never,
    mlp_bias: Bias::Never,
    sliding_window: true,
    ..SPEC
};
