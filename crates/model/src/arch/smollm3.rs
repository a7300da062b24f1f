//! SmolLM3: llama whose every fourth layer does not rotate queries and keys (NoPE: Yang et al. 2025, arXiv:2501.18795).

use super::llama::SPEC;
use super::{ArchSpec, GgufRules};

/// Source: transformers `modeling_smollm3.py`; llama.cpp `conversion/llama.py`, `src/models/smollm3.cpp`.
pub static SMOLLM3: ArchSpec = ArchSpec {
    model_type: "smollm3",
    hf_class: "SmolLM3ForCausalLM",
    gguf_architecture: "smollm3",
    sliding_window: true,
    gguf: GgufRules { unrotated_period: Some(4), other_biases: false, ..GgufRules::LLAMA },
    ..SPEC
};
