//! Qwen 3, dense: every head's queries and keys normalized; no biases unless `attention_bias` says so.

use super::llama::SPEC;
use super::{ArchSpec, Bias, GgufRules, LLAMA_NAMES, QK_NORM_NAMES, QkNorm, RopeLayout};

/// llama.cpp runs it without a window; so does a file read back from GGUF.
///
/// Source: transformers `modeling_qwen3.py`; llama.cpp `conversion/qwen.py`, `src/models/qwen3.cpp`.
pub static QWEN3: ArchSpec = ArchSpec {
    model_type: "qwen3",
    hf_class: "Qwen3ForCausalLM",
    gguf_architecture: "qwen3",
    mlp_bias: Bias::Never,
    qk_norm: QkNorm::PerHead,
    sliding_window: true,
    rope_layout: RopeLayout::Halves,
    gguf: GgufRules { other_biases: false, ..GgufRules::LLAMA },
    names: &[QK_NORM_NAMES, LLAMA_NAMES],
    ..SPEC
};
