//! Qwen 2 and 2.5: biases on Q, K and V; where `use_sliding_window` asks for it, a window in the upper layers.

use super::llama::SPEC;
use super::{ArchSpec, Bias, RopeLayout};

/// llama.cpp runs it without the window; so does a file read back from GGUF.
///
/// Source: transformers `modeling_qwen2.py`; llama.cpp `conversion/qwen.py`, `src/models/qwen2.cpp`.
pub static QWEN2: ArchSpec = ArchSpec {
    model_type: "qwen2",
    hf_class: "Qwen2ForCausalLM",
    gguf_architecture: "qwen2",
    qkv_bias: Bias::Always,
    output_bias: Bias::Never,
    mlp_bias: Bias::Never,
    sliding_window: true,
    free_heads: false,
    rope_layout: RopeLayout::Halves,
    ..SPEC
};
