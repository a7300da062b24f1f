//! What a model lost when it was accepted, to hold later ones against on the same windows.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::baseline_tasks::{TaskAnswers, TaskBaseline, check_tasks};
use super::{Check, Metric, Side, Verdict, check, window_means};
use crate::{Evaluation, KeptBase, PredictionFormat, Windowing};

/// The version of the stored form.
const VERSION: u32 = 1;

/// An accepted model's losses, window by window: differences between two models on the same windows are far less uncertain
/// than either's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Version of the stored form.
    pub slmc_gate: u32,
    /// SHA-256 of the token ids of the text.
    pub tokens_sha256: String,
    /// Tokens of a window.
    pub n_ctx: usize,
    /// Tokens from one window to the next, of strided windows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<usize>,
    /// Tokens of each position that were known of the original's predictions, where it did not run itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_top_k: Option<usize>,
    /// Whether the original's predictions were those of llama-perplexity's file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub base_in_16_bits: bool,
    /// Mean KL divergence from the original of each window, in nats per token.
    pub kl_divergence: Vec<f64>,
    /// What it got right.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskBaseline>,
}

/// What was known of the original's predictions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// All of them.
    Whole,
    /// So many of the likeliest tokens of each position.
    TopK(usize),
    /// Every probability in 16 bits.
    SixteenBits,
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => write!(f, "all of the original's predictions"),
            Self::TopK(k) => write!(f, "the {k} likeliest tokens of the original's predictions"),
            Self::SixteenBits => {
                write!(f, "the original's predictions in the 16 bits of llama-perplexity's file")
            }
        }
    }
}

/// Why a baseline says nothing of an evaluation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Incomparable {
    /// Written by another version.
    #[error("the baseline is of version {found}; this slmc reads version {VERSION}")]
    Version {
        /// Its version.
        found: u32,
    },
    /// Measured on something else.
    #[error("the baseline was measured on another text, or by another tokenizer")]
    Text,
    /// Measured otherwise.
    #[error(
        "the baseline was measured on {baseline_windows} windows of {baseline_n_ctx} tokens, this model on {windows} of {n_ctx}"
    )]
    Windows {
        /// Windows then.
        baseline_windows: usize,
        /// Tokens of each.
        baseline_n_ctx: usize,
        /// Windows now.
        windows: usize,
        /// Tokens of each.
        n_ctx: usize,
    },
    /// Held against an original that was known otherwise.
    #[error(
        "the baseline was measured against {baseline}, this model against {now}; save a new baseline, or measure as it was"
    )]
    Original {
        /// What was known then.
        baseline: Known,
        /// What is known now.
        now: Known,
    },
    /// A task that was not asked.
    #[error("the baseline holds answers to `{name}`, which was not asked now; name its file with --tasks")]
    TaskMissing {
        /// The task.
        name: String,
    },
    /// A task of the same name that is another file.
    #[error("the baseline's answers are to another file `{name}`; ask that one, or save a new baseline")]
    TaskFile {
        /// The task.
        name: String,
    },
    /// Other items of the same file, or asked otherwise.
    #[error(
        "the baseline answered {baseline_items} items of `{name}` with {baseline_fewshot} examples before each, this model \
         {items} with {fewshot}"
    )]
    TaskItems {
        /// The task.
        name: String,
        /// Items then.
        baseline_items: usize,
        /// Examples then.
        baseline_fewshot: usize,
        /// Items now.
        items: usize,
        /// Examples now.
        fewshot: usize,
    },
    /// Answers that cannot be read.
    #[error("the baseline's answers to `{name}` are damaged; save it again")]
    TaskDamaged {
        /// The task.
        name: String,
    },
    /// Measured with another stride.
    #[error("the baseline was measured with {}, this model with {}", strides(*baseline), strides(*now))]
    Stride {
        /// The stride then.
        baseline: Option<usize>,
        /// The stride now.
        now: Option<usize>,
    },
}

fn strides(stride: Option<usize>) -> String {
    stride.map_or_else(|| "windows side by side".to_owned(), |stride| format!("a stride of {stride}"))
}

impl Baseline {
    /// Of an evaluation beside a base, and of the answers to tasks.
    ///
    /// # Panics
    /// If there was no base.
    pub fn of(evaluation: &Evaluation, tokens_sha256: &str, tasks: &[TaskAnswers<'_>]) -> Self {
        let base = evaluation.base_logits;
        Self {
            slmc_gate: VERSION,
            tokens_sha256: tokens_sha256.to_owned(),
            n_ctx: evaluation.n_ctx,
            stride: (evaluation.windowing == Windowing::Strided).then_some(evaluation.stride),
            base_top_k: base.as_ref().and_then(KeptBase::bound),
            base_in_16_bits: base.is_some_and(|kept| kept.format == PredictionFormat::LlamaPerplexity),
            kl_divergence: window_means(evaluation, |_, drift| drift.kl),
            tasks: tasks.iter().map(TaskBaseline::of).collect(),
        }
    }

    /// What was known of the original.
    fn known(&self) -> Known {
        match (self.base_top_k, self.base_in_16_bits) {
            (Some(k), _) => Known::TopK(k),
            (None, true) => Known::SixteenBits,
            (None, false) => Known::Whole,
        }
    }

    /// Holds the answers to the baseline's tasks against its own, of whose accuracy the share `limit` must be left; `None` where it
    /// has no tasks.
    ///
    /// # Errors
    /// The two did not answer the same items.
    pub fn check_tasks(
        &self,
        now: &[TaskAnswers<'_>],
        limit: f64,
        confidence: f64,
    ) -> Result<Option<Check>, Incomparable> {
        check_tasks(&self.tasks, now, limit, confidence)
    }

    /// Holds an evaluation's KL divergence against this one's, which it may exceed by the share `limit`.
    ///
    /// With r the ratio of the means of x and of the baseline's b, the ratio's error is that of the mean of x − r b in parts of
    /// the mean of b, to first order (Fieller's linear form), so that is what is resampled.
    ///
    /// # Errors
    /// The two were not measured on the same windows.
    pub fn check(
        &self,
        evaluation: &Evaluation,
        tokens_sha256: &str,
        limit: f64,
        confidence: f64,
    ) -> Result<Check, Incomparable> {
        if self.slmc_gate != VERSION {
            return Err(Incomparable::Version { found: self.slmc_gate });
        }
        if self.tokens_sha256 != tokens_sha256 {
            return Err(Incomparable::Text);
        }
        let now = Self::of(evaluation, tokens_sha256, &[]);
        if self.stride != now.stride {
            return Err(Incomparable::Stride { baseline: self.stride, now: now.stride });
        }
        if (self.n_ctx, self.kl_divergence.len()) != (now.n_ctx, now.kl_divergence.len()) {
            return Err(Incomparable::Windows {
                baseline_windows: self.kl_divergence.len(),
                baseline_n_ctx: self.n_ctx,
                windows: now.kl_divergence.len(),
                n_ctx: now.n_ctx,
            });
        }
        if self.known() != now.known() {
            return Err(Incomparable::Original { baseline: self.known(), now: now.known() });
        }
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let (before, after) = (mean(&self.kl_divergence), mean(&now.kl_divergence));
        let metric = Metric::KlOverBaseline;
        if before <= 0.0 && after > 0.0 {
            // any loss is beyond every share of none
            let (value, verdict) = (f64::INFINITY, Verdict::Regression);
            return Ok(Check { metric, limit, value, interval: None, verdict, windows_needed: None });
        }
        let (ratio, scale) = if before > 0.0 { (after / before, before) } else { (1.0, 1.0) };
        let pairs = now.kl_divergence.iter().zip(&self.kl_divergence);
        let growth: Vec<f64> = pairs.map(|(x, b)| ratio - 1.0 + (x - ratio * b) / scale).collect();
        Ok(check(metric, limit, Side::AtMost, &growth, confidence, |x| x))
    }
}
