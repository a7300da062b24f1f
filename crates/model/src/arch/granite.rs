//! Granite 3, dense: llama with multipliers of the embedding, of scores, of what is added to the residual stream, and of logits.

use super::llama::SPEC;
use super::{ArchSpec, GgufRules, Scaling};

/// Source: transformers `modeling_granite.py`; llama.cpp `conversion/granite.py`, `src/models/granite.cpp`.
pub static GRANITE: ArchSpec = ArchSpec {
    model_type: "granite",
    hf_class: "GraniteForCausalLM",
    gguf_architecture: "granite",
    scaling: Scaling::Granite,
    gguf: GgufRules { states_attention_scale: true, ..GgufRules::LLAMA },
    ..SPEC
};
