//! Gemma 2 and the text models of Gemma 3: norms in front of and behind attention and MLP, whose weights are stored without
//! their 1; scaled embeddings; layers with and without a window in turns.

use super::llama::SPEC;
use super::{
    Activation, ArchSpec, Bias, GgufRules, LLAMA_NAMES, NormPlacement, OUTPUT_NORM_NAMES, QK_NORM_NAMES,
    QkNorm, RopeLayout, Scaling,
};

/// Source: transformers `modeling_gemma2.py`; llama.cpp `conversion/gemma.py`, `src/models/gemma2.cpp`.
pub static GEMMA2: ArchSpec =
    ArchSpec { model_type: "gemma2", hf_class: "Gemma2ForCausalLM", gguf_architecture: "gemma2", ..GEMMA };

/// Norms of queries and keys instead of the soft-cap, and frequencies of their own in layers with a window.
///
/// Source: transformers `modeling_gemma3.py`; llama.cpp `conversion/gemma.py`, `src/models/gemma3.cpp`.
pub static GEMMA3: ArchSpec = ArchSpec {
    model_type: "gemma3_text",
    hf_class: "Gemma3ForCausalLM",
    gguf_architecture: "gemma3",
    qk_norm: QkNorm::PerHead,
    gguf: GgufRules {
        window_period: Some(6),
        always_windowed: false,
        local_rope_theta: Some(10_000.0),
        softcaps: [None; 2],
        layers_of_27b: Some(62),
        head: None,
        ..RULES
    },
    names: &[QK_NORM_NAMES, OUTPUT_NORM_NAMES, LLAMA_NAMES],
    ..GEMMA
};

const GEMMA: ArchSpec = ArchSpec {
    mlp_bias: Bias::Never,
    norms: NormPlacement::BeforeAndAfter,
    norm_offset: 1.0,
    activation: Activation::GeluTanh,
    scaling: Scaling::Gemma,
    sliding_window: true,
    gguf: RULES,
    rope_layout: RopeLayout::Halves,
    names: &[OUTPUT_NORM_NAMES, LLAMA_NAMES],
    ..SPEC
};

/// Those of Gemma 2.
const RULES: GgufRules = GgufRules {
    window_period: Some(2),
    always_windowed: true,
    softcaps: [Some(50.0), Some(30.0)],
    layers_of_27b: Some(46),
    head: Some(false),
    other_biases: false,
    ..GgufRules::LLAMA
};
