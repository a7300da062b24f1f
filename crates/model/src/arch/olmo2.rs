//! OLMo 2: norms behind attention and MLP only, queries and keys normalized over all heads together.

use super::llama::SPEC;
use super::{
    ArchSpec, Bias, GgufRules, LLAMA_NAMES, NormPlacement, OUTPUT_NORM_NAMES, QK_NORM_NAMES, QkNorm,
    RopeLayout,
};

/// Source: transformers `modeling_olmo2.py`; llama.cpp `conversion/olmo.py`, `src/models/olmo2.cpp`.
pub static OLMO2: ArchSpec = ArchSpec {
    model_type: "olmo2",
    hf_class: "Olmo2ForCausalLM",
    gguf_architecture: "olmo2",
    mlp_bias: Bias::Never,
    norms: NormPlacement::After,
    qk_norm: QkNorm::WholeWidth,
    free_heads: false,
    rope_layout: RopeLayout::Halves,
    gguf: GgufRules { head: Some(true), other_biases: false, ..GgufRules::LLAMA },
    names: &[QK_NORM_NAMES, OUTPUT_NORM_NAMES, LLAMA_NAMES],
    ..SPEC
};
