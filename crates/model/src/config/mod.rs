//! The dimensions and options of one model, wherever they were read from.

mod from_checkpoint;
mod from_gguf;

use crate::arch::{Activation, ArchSpec, Bias, Role, TensorId};

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
    /// Frequency i divided by `factors[i]`; `head_dim / 2` of them. What GGUF stores as `rope_freqs.weight`.
    Factors(Vec<f32>),
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
    /// Longest sequence the model was made for.
    pub max_position_embeddings: usize,
    /// For each block, how many tokens back (itself included) a token sees; `None` for all.
    pub sliding_window: Vec<Option<usize>>,
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
        match role {
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
            Role::OutputBias | Role::DownBias => vec![hidden],
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
