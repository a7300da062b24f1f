//! How checkpoints and GGUF files call the tensors of a family.

use super::{ArchSpec, Role, TensorId};

/// The names of one role.
#[derive(Clone, Copy, Debug)]
pub struct RoleNames {
    /// The role.
    pub role: Role,
    /// The Hugging Face name; for a tensor of a block, what follows `model.layers.<n>.`.
    pub hf: &'static str,
    /// The GGUF name; for a tensor of a block, what follows `blk.<n>.`.
    pub gguf: &'static str,
}

const fn names(role: Role, hf: &'static str, gguf: &'static str) -> RoleNames {
    RoleNames { role, hf, gguf }
}

/// The names of llama and of the many families that took them over.
///
/// Source: transformers' `modeling_llama.py`; `MODEL_TENSOR` and `TensorNameMap` of llama.cpp's gguf-py.
pub const LLAMA_NAMES: &[RoleNames] = &[
    names(Role::TokenEmbedding, "model.embed_tokens.weight", "token_embd.weight"),
    names(Role::InputNorm, "input_layernorm.weight", "attn_norm.weight"),
    names(Role::Query, "self_attn.q_proj.weight", "attn_q.weight"),
    names(Role::QueryBias, "self_attn.q_proj.bias", "attn_q.bias"),
    names(Role::Key, "self_attn.k_proj.weight", "attn_k.weight"),
    names(Role::KeyBias, "self_attn.k_proj.bias", "attn_k.bias"),
    names(Role::Value, "self_attn.v_proj.weight", "attn_v.weight"),
    names(Role::ValueBias, "self_attn.v_proj.bias", "attn_v.bias"),
    names(Role::Output, "self_attn.o_proj.weight", "attn_output.weight"),
    names(Role::OutputBias, "self_attn.o_proj.bias", "attn_output.bias"),
    names(Role::PostNorm, "post_attention_layernorm.weight", "ffn_norm.weight"),
    names(Role::Gate, "mlp.gate_proj.weight", "ffn_gate.weight"),
    names(Role::GateBias, "mlp.gate_proj.bias", "ffn_gate.bias"),
    names(Role::Up, "mlp.up_proj.weight", "ffn_up.weight"),
    names(Role::UpBias, "mlp.up_proj.bias", "ffn_up.bias"),
    names(Role::Down, "mlp.down_proj.weight", "ffn_down.weight"),
    names(Role::DownBias, "mlp.down_proj.bias", "ffn_down.bias"),
    names(Role::FinalNorm, "model.norm.weight", "output_norm.weight"),
    names(Role::Head, "lm_head.weight", "output.weight"),
];

/// What families with norms of queries and keys call these.
pub const QK_NORM_NAMES: &[RoleNames] = &[
    names(Role::QueryNorm, "self_attn.q_norm.weight", "attn_q_norm.weight"),
    names(Role::KeyNorm, "self_attn.k_norm.weight", "attn_k_norm.weight"),
];

/// What families with norms behind attention and MLP call these; the Hugging Face names of the norms in front of them follow.
pub const OUTPUT_NORM_NAMES: &[RoleNames] = &[
    names(Role::AttentionOutputNorm, "post_attention_layernorm.weight", "post_attention_norm.weight"),
    names(Role::PostNorm, "pre_feedforward_layernorm.weight", "ffn_norm.weight"),
    names(Role::MlpOutputNorm, "post_feedforward_layernorm.weight", "post_ffw_norm.weight"),
];

/// What families with fused matrices call these. GGUF has gate and up under the name of up.
pub const FUSED_NAMES: &[RoleNames] = &[
    names(Role::QueryKeyValue, "self_attn.qkv_proj.weight", "attn_qkv.weight"),
    names(Role::GateUp, "mlp.gate_up_proj.weight", "ffn_up.weight"),
];

const HF_PREFIX: &str = "model.layers.";
const GGUF_PREFIX: &str = "blk.";

fn full_name(prefix: &str, name: &str, layer: Option<usize>) -> String {
    match layer {
        Some(layer) => format!("{prefix}{layer}.{name}"),
        None => name.to_owned(),
    }
}

/// Decimal without sign or leading zeros, so that a tensor has one name only.
fn canonical_number(text: &str) -> Option<usize> {
    let number: usize = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

impl ArchSpec {
    /// The names of every role the family has. Earlier tables go before later ones.
    fn names(&self) -> impl Iterator<Item = &RoleNames> {
        self.names.iter().copied().flatten().filter(move |entry| self.knows(entry.role))
    }

    fn entry(&self, role: Role) -> Option<&RoleNames> {
        self.names().find(|entry| entry.role == role)
    }

    /// The Hugging Face name of a tensor; `None` if the family has none for its role.
    pub fn hf_name(&self, id: TensorId) -> Option<String> {
        Some(full_name(HF_PREFIX, self.entry(id.role)?.hf, id.layer))
    }

    /// The GGUF name of a tensor; `None` if the family has none for its role.
    pub fn gguf_name(&self, id: TensorId) -> Option<String> {
        Some(full_name(GGUF_PREFIX, self.entry(id.role)?.gguf, id.layer))
    }

    /// The tensor with this Hugging Face name.
    pub fn by_hf_name(&self, name: &str) -> Option<TensorId> {
        self.find(HF_PREFIX, name, |entry| entry.hf)
    }

    /// The tensor with this GGUF name.
    pub fn by_gguf_name(&self, name: &str) -> Option<TensorId> {
        self.find(GGUF_PREFIX, name, |entry| entry.gguf)
    }

    fn find(&self, prefix: &str, name: &str, of: impl Fn(&RoleNames) -> &'static str) -> Option<TensorId> {
        let (layer, rest) = match name.strip_prefix(prefix).and_then(|rest| rest.split_once('.')) {
            Some((number, rest)) => (Some(canonical_number(number)?), rest),
            None => (None, name),
        };
        let named = |entry: &&RoleNames| entry.role.is_per_layer() == layer.is_some() && of(entry) == rest;
        let role = self.names().find(named)?.role;
        Some(TensorId { role, layer })
    }
}
