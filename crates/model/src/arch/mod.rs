//! An architecture is data: one [`ArchSpec`] a family, which the one decoder, the readers and the exporters
//! follow. A new family is one new file here and one line in [`ArchSpec::ALL`].

mod exaone4;
mod gemma;
mod gguf_rules;
mod granite;
mod llama;
mod mistral;
mod names;
mod olmo2;
mod permute;
mod phi3;
mod qwen2;
mod qwen3;
mod role;
mod smollm3;

pub use gguf_rules::GgufRules;
pub use names::{FUSED_NAMES, LLAMA_NAMES, OUTPUT_NORM_NAMES, QK_NORM_NAMES, RoleNames};
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
    /// The Gaussian error linear unit by its tanh approximation (Hendrycks and Gimpel 2016, arXiv:1606.08415, section 2):
    /// x · sigmoid(2u), u = √(2/π) (x + 0.044715 x³), which is x (1 + tanh u) / 2.
    GeluTanh,
}

impl Activation {
    /// `hidden_act` in config.json.
    pub fn from_hf(name: &str) -> Option<Self> {
        match name {
            "silu" | "swish" => Some(Self::Silu),
            "gelu_pytorch_tanh" => Some(Self::GeluTanh),
            _ => None,
        }
    }

    /// The name in config.json.
    pub const fn hf_name(self) -> &'static str {
        match self {
            Self::Silu => "silu",
            Self::GeluTanh => "gelu_pytorch_tanh",
        }
    }
}

/// Where a block has RMSNorms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormPlacement {
    /// In front of attention and of the MLP.
    Before,
    /// In front of both and behind both, before their outputs are added to the residual stream.
    BeforeAndAfter,
    /// Behind both only.
    After,
}

/// How queries and keys are normalized before they are rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkNorm {
    /// Not at all.
    None,
    /// Every head by itself, all with the same weights.
    PerHead,
    /// All heads together.
    WholeWidth,
}

/// What the family multiplies with or caps, and where the numbers come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scaling {
    /// Attention's scores by 1/√head_dim; nothing else.
    Plain,
    /// Embedded tokens by √hidden_size, scores by 1/√query_pre_attn_scalar; soft-caps where the configuration has some.
    Gemma,
    /// The four multipliers of the configuration.
    Granite,
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
    /// Whether query, key and value are one matrix, and gate and up another.
    pub fused: bool,
    /// Where the norms are.
    pub norms: NormPlacement,
    /// What checkpoints leave out of the norms' weights: they hold w − this. GGUF files hold w.
    pub norm_offset: f32,
    /// Norms of queries and keys.
    pub qk_norm: QkNorm,
    /// The MLP's nonlinearity.
    pub activation: Activation,
    /// Multipliers and soft-caps.
    pub scaling: Scaling,
    /// Whether the family honours the `sliding_window` of its configuration.
    pub sliding_window: bool,
    /// Whether frequencies may be those of LongRoPE, and a part of each head stay as it is.
    pub long_rope: bool,
    /// Whether llama.cpp reads files of this family whose heads together are not as wide as the residual stream.
    pub free_heads: bool,
    /// How Q and K rows lie in GGUF.
    pub rope_layout: RopeLayout,
    /// What else llama.cpp makes of files of this family.
    pub gguf: GgufRules,
    /// What the family's tensors are called; earlier tables go before later ones.
    pub names: &'static [&'static [RoleNames]],
}

/// Families compare by their model type.
impl PartialEq for ArchSpec {
    fn eq(&self, other: &Self) -> bool {
        self.model_type == other.model_type
    }
}

impl ArchSpec {
    /// Every family. Where two share a GGUF architecture, the first one reads such files.
    pub const ALL: &[&ArchSpec] = &[
        &llama::LLAMA,
        &mistral::MISTRAL,
        &mistral::MINISTRAL,
        &qwen2::QWEN2,
        &qwen3::QWEN3,
        &phi3::PHI3,
        &gemma::GEMMA2,
        &gemma::GEMMA3,
        &smollm3::SMOLLM3,
        &granite::GRANITE,
        &olmo2::OLMO2,
        &exaone4::EXAONE4,
    ];

    /// The family with this `model_type`.
    pub fn by_model_type(model_type: &str) -> Option<&'static ArchSpec> {
        Self::ALL.iter().copied().find(|arch| arch.model_type == model_type)
    }

    /// The family that reads GGUF files of this `general.architecture`.
    pub fn by_gguf_architecture(name: &str) -> Option<&'static ArchSpec> {
        Self::ALL.iter().copied().find(|arch| arch.gguf_architecture == name)
    }

    /// Whether models of this family can have a tensor for `role`.
    pub fn knows(&self, role: Role) -> bool {
        match role {
            Role::QueryKeyValue | Role::GateUp => self.fused,
            Role::Query | Role::Key | Role::Value | Role::Gate | Role::Up => !self.fused,
            Role::QueryBias | Role::KeyBias | Role::ValueBias | Role::GateBias | Role::UpBias => !self.fused,
            Role::QueryNorm | Role::KeyNorm => self.qk_norm != QkNorm::None,
            Role::InputNorm | Role::PostNorm => self.norms != NormPlacement::After,
            Role::AttentionOutputNorm | Role::MlpOutputNorm => self.norms != NormPlacement::Before,
            _ => true,
        }
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
                assert_eq!(arch.hf_name(id).is_some(), arch.knows(role), "{}: {role:?}", arch.model_type);
                let (Some(hf), Some(gguf)) = (arch.hf_name(id), arch.gguf_name(id)) else { continue };
                assert_eq!(arch.by_hf_name(&hf), Some(id), "{}", arch.model_type);
                assert_eq!(arch.by_gguf_name(&gguf), Some(id), "{}", arch.model_type);
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
    fn the_same_name_means_what_the_family_means_by_it() {
        let role = |model_type: &str, name: &str| {
            let arch = ArchSpec::by_model_type(model_type).unwrap();
            arch.by_hf_name(&format!("model.layers.0.{name}.weight")).map(|id| id.role)
        };
        assert_eq!(role("llama", "post_attention_layernorm"), Some(Role::PostNorm));
        assert_eq!(role("gemma2", "post_attention_layernorm"), Some(Role::AttentionOutputNorm));
        assert_eq!(role("gemma2", "pre_feedforward_layernorm"), Some(Role::PostNorm));
        assert_eq!(role("olmo2", "input_layernorm"), None);
        assert_eq!(role("phi3", "mlp.up_proj"), None);
    }

    #[test]
    fn mistral_files_are_read_as_llama() {
        assert_eq!(ArchSpec::by_gguf_architecture("llama").unwrap().model_type, "llama");
        assert!(ArchSpec::by_model_type("gpt2").is_none());
    }
}
