//! EXAONE 4: norms behind attention and MLP only, every head's queries and keys normalized. In models with a window, layers without
//! one do not rotate.

use super::llama::SPEC;
use super::{
    ArchSpec, Bias, GgufRules, LLAMA_NAMES, NormPlacement, OUTPUT_NORM_NAMES, QK_NORM_NAMES, QkNorm,
    RopeLayout,
};

/// llama.cpp runs windows in models of 64 layers only, which it tells by that number.
///
/// Source: transformers `modeling_exaone4.py`; llama.cpp `conversion/exaone.py`, `src/models/exaone4.cpp`.
pub static EXAONE4: ArchSpec = ArchSpec {
    model_type: "exaone4",
    hf_class: "Exaone4ForCausalLM",
    gguf_architecture: "exaone4",
    qkv_bias: Bias::Never,
    output_bias: Bias::Never,
    mlp_bias: Bias::Never,
    norms: NormPlacement::After,
    qk_norm: QkNorm::PerHead,
    sliding_window: true,
    free_heads: false,
    rope_layout: RopeLayout::Halves,
    gguf: GgufRules { other_biases: false, ..GgufRules::LLAMA },
    names: &[QK_NORM_NAMES, OUTPUT_NORM_NAMES, LLAMA_NAMES],
    ..SPEC
};
