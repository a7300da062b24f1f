//! Phi-3, Phi-3.5, Phi-4 and Phi-4-mini: fused matrices, LongRoPE, a part of each head rotated.

use super::llama::SPEC;
use super::{ArchSpec, Bias, FUSED_NAMES, LLAMA_NAMES, RopeLayout};

/// llama.cpp runs it without the window; so does a file read back from GGUF.
///
/// Source: transformers `modeling_phi3.py`; llama.cpp `conversion/phi.py`, `src/models/phi3.cpp`.
pub static PHI3: ArchSpec = ArchSpec {
    model_type: "phi3",
    hf_class: "Phi3ForCausalLM",
    gguf_architecture: "phi3",
    qkv_bias: Bias::Never,
    output_bias: Bias::Never,
    mlp_bias: Bias::Never,
    fused: true,
    sliding_window: true,
    long_rope: true,
    free_heads: false,
    rope_layout: RopeLayout::Halves,
    names: &[FUSED_NAMES, LLAMA_NAMES],
    ..SPEC
};
