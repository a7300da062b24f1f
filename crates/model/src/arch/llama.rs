//! Llama 1 to 3.2, TinyLlama, SmolLM2 and the rest of the family.

use super::{ArchSpec, Bias, LLAMA_NAMES, RopeLayout};

/// Source: transformers `modeling_llama.py`; llama.cpp `conversion/llama.py`, `src/models/llama.cpp`.
pub static LLAMA: ArchSpec = ArchSpec {
    model_type: "llama",
    hf_class: "LlamaForCausalLM",
    gguf_architecture: "llama",
    qkv_bias: Bias::IfAttentionBias,
    output_bias: Bias::IfAttentionBias,
    mlp_bias: Bias::IfMlpBias,
    sliding_window: false,
    free_heads: true,
    rope_layout: RopeLayout::Interleaved,
    names: LLAMA_NAMES,
};
