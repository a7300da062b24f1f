//! An architecture is data: one [`ArchSpec`] a family, which the one decoder, the readers and the exporters
//! follow. A new family is one new file here and one line in [`ArchSpec::ALL`].

mod llama;
mod mistral;
mod names;
mod permute;
mod qwen2;
mod role;

pub use names::{LLAMA_NAMES, RoleNames};
pub use permute::{permute_rows, permuted_row, unpermute_rows};
pub use role::{Role, TensorId};

/// Which linear layers of a group have biases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bias {
    /// None, whatever the configuration says.
    Never,
    /// All, without a word in the configuration.
    Always,
    /// As `attention_bias` says.
    IfAttentionBias,
    /// As `mlp_bias` says.
    IfMlpBias,
}

/// How the rows of Q and K lie in a GGUF file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeLayout {
    /// As in the checkpoint: the two rotated halves of a head one after the other (ggml's NEOX).
    Halves,
    /// The two halves interleaved, row by row (ggml's NORM): see [`permute_rows`].
    Interleaved,
}

/// The nonlinearity of the MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x · sigmoid(x).
    Silu,
}

impl Activation {
    /// `hidden_act` in config.json.
    pub fn from_hf(name: &str) -> Option<Self> {
        match name {
            "silu" | "swish" => Some(Self::Silu),
            _ => None,
        }
    }
}

/// What distinguishes one model family from another.
#[derive(Debug)]
pub struct ArchSpec {
    /// `model_type` in config.json.
    pub model_type: &'static str,
    /// The class in `architectures` of config.json.
    pub hf_class: &'static str,
    /// `general.architecture` in GGUF, also the prefix of its keys.
    pub gguf_architecture: &'static str,
    /// Biases of the query, key and value projections.
    pub qkv_bias: Bias,
    /// Bias of the attention's output projection.
    pub output_bias: Bias,
    /// Biases of the MLP's projections.
    pub mlp_bias: Bias,
    /// Whether the family honours the `sliding_window` of its configuration.
    pub sliding_window: bool,
    /// Whether llama.cpp reads files of this family whose heads together are not as wide as the residual stream.
    pub free_heads: bool,
    /// How Q and K rows lie in GGUF.
    pub rope_layout: RopeLayout,
    /// What the family's tensors are called.
    pub names: &'static [RoleNames],
}

/// Families compare by their model type.
impl PartialEq for ArchSpec {
    fn eq(&self, other: &Self) -> bool {
        self.model_type == other.model_type
    }
}

impl ArchSpec {
    /// Every family. Where two share a GGUF architecture, the first one reads such files.
    pub const ALL: &[&ArchSpec] = &[&llama::LLAMA, &mistral::MISTRAL, &qwen2::QWEN2];

    /// The family with this `model_type`.
    pub fn by_model_type(model_type: &str) -> Option<&'static ArchSpec> {
        Self::ALL.iter().copied().find(|arch| arch.model_type == model_type)
    }

    /// The family that reads GGUF files of this `general.architecture`.
    pub fn by_gguf_architecture(name: &str) -> Option<&'static ArchSpec> {
        Self::ALL.iter().copied().find(|arch| arch.gguf_architecture == name)
    }

    /// The Hugging Face name of a tensor; `None` if the family has none for its role.
    pub fn hf_name(&self, id: TensorId) -> Option<String> {
        names::hf_name(self.names, id)
    }

    /// The GGUF name of a tensor; `None` if the family has none for its role.
    pub fn gguf_name(&self, id: TensorId) -> Option<String> {
        names::gguf_name(self.names, id)
    }

    /// The tensor with this Hugging Face name.
    pub fn by_hf_name(&self, name: &str) -> Option<TensorId> {
        names::by_hf_name(self.names, name)
    }

    /// The tensor with this GGUF name.
    pub fn by_gguf_name(&self, name: &str) -> Option<TensorId> {
        names::by_gguf_name(self.names, name)
    }

    /// Whether GGUF wants the rows of this tensor interleaved head by head ([`permute_rows`]).
    pub fn is_permuted(&self, role: Role) -> bool {
        self.rope_layout == RopeLayout::Interleaved
            && matches!(role, Role::Query | Role::QueryBias | Role::Key | Role::KeyBias)
    }

    /// Which rule says whether this bias exists; [`Bias::Always`] for everything that is no bias.
    pub fn bias_rule(&self, role: Role) -> Bias {
        match role {
            Role::QueryBias | Role::KeyBias | Role::ValueBias => self.qkv_bias,
            Role::OutputBias => self.output_bias,
            Role::GateBias | Role::UpBias | Role::DownBias => self.mlp_bias,
            _ => Bias::Always,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_tensor() {
        for arch in ArchSpec::ALL {
            for role in Role::ALL {
                let id = if role.is_per_layer() { TensorId::block(12, role) } else { TensorId::global(role) };
                assert_eq!(arch.by_hf_name(&arch.hf_name(id).unwrap()), Some(id));
                assert_eq!(arch.by_gguf_name(&arch.gguf_name(id).unwrap()), Some(id));
            }
        }
    }

    #[test]
    fn names_are_those_of_the_files() {
        let arch = ArchSpec::by_model_type("llama").unwrap();
        let query = TensorId::block(3, Role::Query);
        assert_eq!(arch.hf_name(query).unwrap(), "model.layers.3.self_attn.q_proj.weight");
        assert_eq!(arch.gguf_name(query).unwrap(), "blk.3.attn_q.weight");
        for other in ["blk.03.attn_q.weight", "blk.-1.attn_q.weight", "attn_q.weight", "blk.0.output.weight"]
        {
            assert_eq!(arch.by_gguf_name(other), None, "{other}");
        }
    }

    #[test]
    fn mistral_files_are_read_as_llama() {
        assert_eq!(ArchSpec::by_gguf_architecture("llama").unwrap().model_type, "llama");
        assert!(ArchSpec::by_model_type("gpt2").is_none());
    }
}
