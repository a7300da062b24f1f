//! Llama 1 to 3.2, TinyLlama, SmolLM2, MobileLLaMA, Kanana and the rest of the family.

use super::{Activation, ArchSpec, Bias, GgufRules, LLAMA_NAMES, NormPlacement, QkNorm, RopeLayout, Scaling};

/// Source: transformers `modeling_llama.py`; llama.cpp `conversion/llama.py`, `src/models/llama.cpp`.
pub static LLAMA: ArchSpec = SPEC;

/// What other families say their differences from.
pub(super) const SPEC: ArchSpec = ArchSpec {
    model_type: "llama",
    hf_class: "LlamaForCausalLM",
    gguf_architecture: "llama",
    qkv_bias: Bias::IfAttentionBias,
    output_bias: Bias::IfAttentionBias,
    mlp_bias: Bias::IfMlpBias,
    fused: false,
    norms: NormPlacement::Before,
    norm_offset: 0.0,
    qk_norm: QkNorm::None,
    activation: Activation::Silu,
    scaling: Scaling::Plain,
    sliding_window: false,
    long_rope: false,
    free_heads: true,
    rope_layout: RopeLayout::Interleaved,
    gguf: GgufRules::LLAMA,
    names: &[LLAMA_NAMES],
};
