//! The dimensions and options of one model, wherever they were read from.

mod from_checkpoint;
mod from_gguf;
mod gguf_limits;
mod scales;

pub use from_gguf::{ROPE_FACTORS_LONG, ROPE_FACTORS_SHORT, ROPE_FREQS};

use crate::arch::{Activation, ArchSpec, Bias, QkNorm, Role, TensorId};
use crate::ops::LogitTransform;

/// How rotary frequencies are stretched.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    Default,
    /// Every frequency divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3.1: see [`crate::rope`].
    Llama3 {
        /// The divisor of low frequencies.
        factor: f64,
        /// Longer waves than `original_max_position_embeddings / low_freq_factor` are stretched fully.
        low_freq_factor: f64,
        /// Shorter waves than `original_max_position_embeddings / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// The trained length.
        original_max_position_embeddings: usize,
    },
    /// Frequency i divided by `factors[i]`; `rotary_dim / 2` of them. What GGUF stores as `rope_freqs.weight`.
    Factors(Vec<f32>),
    /// LongRoPE (Ding et al. 2024, arXiv:2402.13753): factors as above, one list for contexts up to the trained length and
    /// another for longer ones.
    LongRope {
        /// Up to the trained length.
        short: Vec<f32>,
        /// Beyond it.
        long: Vec<f32>,
        /// What cosines and sines are multiplied with.
        attention_factor: f64,
        /// The trained length.
        original_max_position_embeddings: usize,
    },
}

/// Which frequencies a block rotates its queries and keys with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// Not at all.
    None,
    /// Those of `rope_theta` and `rope_scaling`.
    Global,
    /// Those of `local_rope_theta`, not stretched.
    Local,
}

/// A model's configuration: fields keep Hugging Face's spelling.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// The family.
    pub arch: &'static ArchSpec,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides `num_attention_heads`.
    pub num_key_value_heads: usize,
    /// Width of one head; even.
    pub head_dim: usize,
    /// The MLP's nonlinearity.
    pub activation: Activation,
    /// Added to the mean square in RMSNorm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How they are stretched.
    pub rope_scaling: RopeScaling,
    /// Base of the frequencies of blocks that are [`Rotation::Local`].
    pub local_rope_theta: f64,
    /// How many components of each head are rotated, the first ones; even.
    pub rotary_dim: usize,
    /// How each block rotates.
    pub rotation: Vec<Rotation>,
    /// Longest sequence the model was made for.
    pub max_position_embeddings: usize,
    /// For each block, how many tokens back (itself included) a token sees; `None` for all.
    pub sliding_window: Vec<Option<usize>>,
    /// Factor of attention's scores: 1/√head_dim in most families.
    pub attention_scale: f64,
    /// What attention's scores stay within, by c · tanh(x / c).
    pub attention_softcap: Option<f64>,
    /// Factor of the embedded tokens.
    pub embedding_scale: f64,
    /// Factor of what attention and MLP add to the residual stream.
    pub residual_scale: f64,
    /// What becomes of the head's products.
    pub logits: LogitTransform,
    /// Whether the head is the embedding.
    pub tie_word_embeddings: bool,
    /// Whether Q, K and V have biases.
    pub qkv_bias: bool,
    /// Whether the attention's output projection has a bias.
    pub output_bias: bool,
    /// Whether the MLP's projections have biases.
    pub mlp_bias: bool,
}

/// Why a file's configuration is not one the decoder can run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// No such family here.
    #[error("{field} is {found:?}; supported: {supported}")]
    UnsupportedArchitecture {
        /// Where it stands.
        field: &'static str,
        /// What it says.
        found: String,
        /// What it could say.
        supported: String,
    },
    /// A feature of the family that is not carried.
    #[error("{field} is {found:?}, which is not supported; expected {expected}")]
    Unsupported {
        /// Field or key.
        field: String,
        /// What it says.
        found: String,
        /// What it could say.
        expected: String,
    },
    /// Several MLPs a block, of which each token takes some.
    #[error(
        "{field} says that this is a mixture of experts ({found}), which is not supported; a dense model of the same family is"
    )]
    MixtureOfExperts {
        /// Field or key.
        field: String,
        /// What it says.
        found: String,
    },
    /// A GGUF key or tensor that must be there is not, or has the wrong type.
    #[error("{0}")]
    Metadata(String),
}

impl ModelConfig {
    /// Rows of Q: `num_attention_heads · head_dim`.
    pub fn query_size(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// Rows of K and of V: `num_key_value_heads · head_dim`.
    pub fn key_value_size(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }

    /// Whether this model has a tensor for `role` (in every block, if it is a block's).
    pub fn has(&self, role: Role) -> bool {
        self.arch.knows(role)
            && match role {
                Role::QueryBias | Role::KeyBias | Role::ValueBias => self.qkv_bias,
                Role::OutputBias => self.output_bias,
                Role::GateBias | Role::UpBias | Role::DownBias => self.mlp_bias,
                Role::Head => !self.tie_word_embeddings,
                _ => true,
            }
    }

    /// The shape of a tensor, outermost dimension first: `[d_out, d_in]` for matrices.
    pub fn shape(&self, role: Role) -> Vec<usize> {
        let (hidden, inner) = (self.hidden_size, self.intermediate_size);
        let (query, key_value) = (self.query_size(), self.key_value_size());
        match role {
            Role::TokenEmbedding | Role::Head => vec![self.vocab_size, hidden],
            Role::InputNorm | Role::PostNorm | Role::FinalNorm => vec![hidden],
            Role::AttentionOutputNorm | Role::MlpOutputNorm => vec![hidden],
            Role::OutputBias | Role::DownBias => vec![hidden],
            Role::QueryKeyValue => vec![query + 2 * key_value, hidden],
            Role::GateUp => vec![2 * inner, hidden],
            Role::QueryNorm if self.arch.qk_norm == QkNorm::WholeWidth => vec![query],
            Role::KeyNorm if self.arch.qk_norm == QkNorm::WholeWidth => vec![key_value],
            Role::QueryNorm | Role::KeyNorm => vec![self.head_dim],
            Role::Query => vec![query, hidden],
            Role::QueryBias => vec![query],
            Role::Key | Role::Value => vec![key_value, hidden],
            Role::KeyBias | Role::ValueBias => vec![key_value],
            Role::Output => vec![hidden, query],
            Role::Gate | Role::Up => vec![inner, hidden],
            Role::GateBias | Role::UpBias => vec![inner],
            Role::Down => vec![hidden, inner],
        }
    }

    /// Every tensor of the model: the embedding, the blocks, the final norm, the head if it is one of its own.
    pub fn tensors(&self) -> Vec<TensorId> {
        let roles = || Role::ALL.into_iter().filter(|&role| self.has(role));
        let blocks = (0..self.num_hidden_layers).flat_map(|layer| {
            roles().filter(|role| role.is_per_layer()).map(move |role| TensorId::block(layer, role))
        });
        let global = |role| self.has(role).then_some(TensorId::global(role));
        let last = [Role::FinalNorm, Role::Head].into_iter().filter_map(global);
        global(Role::TokenEmbedding).into_iter().chain(blocks).chain(last).collect()
    }

    /// Number of parameters.
    pub fn parameters(&self) -> usize {
        self.tensors().iter().map(|id| self.shape(id.role).iter().product::<usize>()).sum()
    }

    /// The rows of each of a matrix's [parts](Role::parts), one after the other.
    pub fn part_rows(&self, role: Role) -> impl Iterator<Item = (Role, std::ops::Range<usize>)> {
        let mut first = 0;
        role.parts().iter().map(move |&part| {
            let rows = first..first + self.shape(part)[0];
            first = rows.end;
            (part, rows)
        })
    }

    /// What the checkpoint leaves out of this tensor's values: it holds v − this.
    pub fn offset(&self, role: Role) -> f32 {
        if role.is_norm() { self.arch.norm_offset } else { 0.0 }
    }

    /// Whether there is nothing between what a layer of this role gives and the residual stream but a factor.
    pub fn adds_plainly(&self, role: Role) -> bool {
        role.output_norm().is_none_or(|norm| !self.has(norm))
    }

    /// Heads whose rows GGUF wants interleaved in this tensor; `None` where it keeps their order.
    pub fn permuted_heads(&self, role: Role) -> Option<usize> {
        self.arch.is_permuted(role).then_some(match role {
            Role::Key | Role::KeyBias => self.num_key_value_heads,
            _ => self.num_attention_heads,
        })
    }

    /// The tensor the head's rows are read from.
    pub fn head(&self) -> TensorId {
        TensorId::global(if self.tie_word_embeddings { Role::TokenEmbedding } else { Role::Head })
    }
}

/// Whether biases exist under a rule.
fn bias_exists(rule: Bias, attention_bias: bool, mlp_bias: bool) -> bool {
    match rule {
        Bias::Never => false,
        Bias::Always => true,
        Bias::IfAttentionBias => attention_bias,
        Bias::IfMlpBias => mlp_bias,
    }
}

/// The model types (or whatever `of` names) that are supported, for messages.
fn supported(of: impl Fn(&ArchSpec) -> &'static str) -> String {
    let mut names: Vec<&str> = ArchSpec::ALL.iter().map(|arch| of(arch)).collect();
    names.dedup();
    names.join(", ")
}
