//! A base model's predictions from before, in place of the model: the likeliest tokens of each position ([`top_k`]), or the whole
//! vocabulary in 16 bits, as llama-perplexity keeps it ([`llama_logits`]).

use std::fmt;

use serde::Serialize;

pub mod llama_logits;
pub(crate) mod log_probs;
pub mod top_k;

pub use llama_logits::{LlamaLogits, LlamaLogitsError};
pub use top_k::{KeptPredictions, TopKSource};

/// The program that kept predictions, which says how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PredictionFormat {
    /// `slmc distill cache-logits --for-eval`: the likeliest tokens of each position.
    CacheLogits,
    /// `llama-perplexity --kl-divergence-base`: every token, in 16 bits.
    LlamaPerplexity,
}

/// What kept predictions are of, as a report says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct KeptBase {
    /// What kept them.
    pub format: PredictionFormat,
    /// Tokens that were kept of each position.
    pub top_k: usize,
    /// Entries of the vocabulary that they were taken from, the first.
    pub vocab_size: usize,
    /// Whether KL divergences are lower bounds of those from the model: not where every token was kept.
    pub kl_is_lower_bound: bool,
}

impl KeptBase {
    /// Of the `top_k` likeliest tokens of a vocabulary.
    pub fn top_k(top_k: usize, vocab_size: usize) -> Self {
        let format = PredictionFormat::CacheLogits;
        Self { format, top_k, vocab_size, kl_is_lower_bound: top_k < vocab_size }
    }

    /// The tokens of each position that divergences are lower bounds for; `None` where they are no bounds.
    pub fn bound(&self) -> Option<usize> {
        self.kl_is_lower_bound.then_some(self.top_k)
    }
}

impl fmt::Display for KeptBase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { format, top_k, vocab_size, .. } = self;
        match format {
            PredictionFormat::CacheLogits => {
                write!(f, "{top_k} likeliest of {vocab_size} tokens at each position")
            }
            PredictionFormat::LlamaPerplexity => {
                write!(
                    f,
                    "all {vocab_size} tokens at each position, in the 16 bits of llama-perplexity's file"
                )
            }
        }
    }
}

/// Where kept predictions come from.
#[derive(Clone, Copy)]
pub enum BasePredictions<'a> {
    /// The likeliest tokens of each position.
    TopK(&'a dyn TopKSource),
    /// llama-perplexity's file, of which a slice of the vocabulary is read at a time.
    Llama(&'a LlamaLogits),
}

impl BasePredictions<'_> {
    /// What they are of.
    pub fn about(&self) -> KeptBase {
        match self {
            Self::TopK(source) => source.about(),
            Self::Llama(file) => file.about(),
        }
    }
}
