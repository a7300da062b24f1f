//! Mistral 7B: llama with a sliding window in every layer and no biases.

use super::{ArchSpec, Bias, LLAMA_NAMES, RopeLayout};

/// GGUF calls it `llama`, and llama.cpp runs it without the window; so does a file read back from GGUF.
///
/// Source: transformers `modeling_mistral.py`; llama.cpp `conversion/llama.py`.
pub static MISTRAL: ArchSpec = ArchSpec {
    model_type: "mistral",
    hf_class: "MistralForCausalLM",
    gguf_architecture: "llama",
    qkv_bias: Bias::Never,
    output_bias: Bias::Never,
    mlp_bias: Bias::Never,
    sliding_window: true,
    free_heads: true,
    rope_layout: RopeLayout::Interleaved,
    names: LLAMA_NAMES,
};
