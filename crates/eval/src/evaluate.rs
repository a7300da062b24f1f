//! The evaluation of one or two models on a text.
//!
//! Models are streamed: a group of windows goes through one block at a time, so that a block is read and decoded once per
//! group, and one block is in memory however large the model is. A base model's blocks come first; what is left of
//! it is the normalized hidden states of the scored positions. After the other model's blocks, both heads go over the
//! vocabulary side by side, a slice at a time.

use serde::Serialize;
use slmc_model::{Device, ModelError, WeightSource};
use thiserror::Error;

use crate::accumulate::NonFiniteLogit;
use crate::group::Group;
use crate::heads::{Reader, score};
use crate::plan::{Plan, total_work};
use crate::progress::{Progress, Reporter, Running};
use crate::scores::{Scores, Side};
use crate::summary::Summary;
use crate::windows::{Protocol, WindowError, Windows};

/// What is evaluated, and in how much memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How the text is cut.
    pub protocol: Protocol,
    /// Bytes for hidden states, activations and logits. A group has at least one window, however little this is; beside
    /// it stand one block's weights in f32 and a slice of the head for each model.
    pub memory_budget: usize,
}

impl Options {
    /// `protocol` within 768 MiB.
    pub fn new(protocol: Protocol) -> Self {
        Self { protocol, memory_budget: 768 << 20 }
    }
}

/// A finished evaluation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// Tokens in a window.
    pub n_ctx: usize,
    /// Tokens from one window's start to the next: windows lie side by side, so `n_ctx`.
    pub stride: usize,
    /// The token that stands in place of each window's first; `None` (null) if the tokenizer adds no BOS.
    pub bos: Option<u32>,
    /// Windows evaluated.
    pub windows: usize,
    /// Things to know about the figures.
    pub warnings: Vec<Warning>,
    /// The figures.
    #[serde(flatten)]
    pub summary: Summary,
    /// The rows behind them.
    #[serde(skip)]
    pub scores: Scores,
}

/// Something that may make figures worse than the model deserves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Error)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Warning {
    /// Windows are longer than the sequences the model was made for.
    #[error("windows of {n_ctx} tokens, but the {side} model was made for at most {max_position_embeddings}")]
    ContextExceedsTraining {
        /// The model.
        side: Side,
        /// Tokens in a window.
        n_ctx: usize,
        /// The model's longest sequence.
        max_position_embeddings: usize,
    },
}

/// An evaluation that cannot be done.
#[derive(Debug, Error)]
pub enum EvaluateError {
    /// The text does not suit the protocol or the vocabulary.
    #[error(transparent)]
    Window(#[from] WindowError),
    /// Predictions over different vocabularies cannot be compared.
    #[error("the base model has a vocabulary of {base}, the evaluated model one of {model}")]
    VocabularyMismatch {
        /// Rows of the base model's head.
        base: usize,
        /// Rows of the evaluated model's head.
        model: usize,
    },
    /// A model predicted NaN or infinity.
    #[error(
        "window {window}, position {position}: the {side} model's logits are NaN or infinite (vocabulary entries from {first_entry})"
    )]
    NonFiniteLogits {
        /// The model.
        side: Side,
        /// Index of the window.
        window: usize,
        /// Position in the window.
        position: usize,
        /// First entry of the slice of the vocabulary that it was found in.
        first_entry: usize,
    },
    /// A variant of a model, or the model itself, predicted NaN or infinity.
    #[error("variant {index}: {source}")]
    Variant {
        /// The variant.
        index: usize,
        /// Where.
        source: NonFiniteLogit,
    },
    /// A model cannot be read or run.
    #[error("{side} model: {source}")]
    Model {
        /// The model.
        side: Side,
        /// The reason.
        source: ModelError,
    },
}

impl EvaluateError {
    pub(crate) fn model(side: Side) -> impl Fn(ModelError) -> Self {
        move |source| Self::Model { side, source }
    }
}

/// Scores `model` on `tokens`, the whole text, and measures its drift from `base` if there is one. The result does not
/// depend on the number of threads.
///
/// # Errors
/// See [`EvaluateError`].
pub fn evaluate(
    model: &dyn WeightSource,
    base: Option<&dyn WeightSource>,
    tokens: &[u32],
    device: Device,
    options: &Options,
    reporter: &mut dyn Reporter,
) -> Result<Evaluation, EvaluateError> {
    let windows = Windows::new(tokens, &options.protocol)?;
    let vocab_size = model.config().vocab_size;
    if let Some(base) = base.map(|base| base.config().vocab_size).filter(|&base| base != vocab_size) {
        return Err(EvaluateError::VocabularyMismatch { base, model: vocab_size });
    }
    windows.check_vocabulary(vocab_size)?;

    // The base model first, so that drift is reported against what was read before.
    let mut subjects = Vec::with_capacity(2);
    subjects.extend(base.map(|source| (Side::Base, source)));
    subjects.push((Side::Model, model));
    let warnings = subjects.iter().filter_map(|subject| exceeds_training(subject, &windows)).collect();

    let configs: Vec<_> = subjects.iter().map(|(_, source)| source.config()).collect();
    let plan = Plan::new(&configs, &windows, options.memory_budget);
    let tokens_total = windows.count() * windows.n_ctx();
    let mut meter = Meter { done: 0.0, total: total_work(&configs, &windows), tokens_total };
    let mut scores = Scores::default();
    let mut first = 0;
    while first < windows.count() {
        let count = plan.windows_per_group.min(windows.count() - first);
        let group = Group { windows: &windows, first, count, plan: &plan };
        let running = Running::of(&scores);
        let mut step = |work: f64| {
            meter.done += work;
            reporter.progress(&meter.progress(first * windows.n_ctx(), running));
        };
        let mut readers = Vec::with_capacity(subjects.len());
        for &(side, source) in &subjects {
            let states = group.forward(source, device, &mut step).map_err(EvaluateError::model(side))?;
            readers.push(Reader { side, source, states });
        }
        scores.append(score(&group, &readers, &mut step)?);
        first += count;
        reporter.progress(&meter.progress(first * windows.n_ctx(), Running::of(&scores)));
    }
    Ok(Evaluation {
        n_ctx: windows.n_ctx(),
        stride: windows.n_ctx(),
        bos: options.protocol.bos,
        windows: windows.count(),
        warnings,
        summary: Summary::of(&scores),
        scores,
    })
}

/// A model and the part it plays.
type Subject<'a> = (Side, &'a dyn WeightSource);

fn exceeds_training(&(side, source): &Subject<'_>, windows: &Windows<'_>) -> Option<Warning> {
    let (n_ctx, max_position_embeddings) = (windows.n_ctx(), source.config().max_position_embeddings);
    (n_ctx > max_position_embeddings).then_some(Warning::ContextExceedsTraining {
        side,
        n_ctx,
        max_position_embeddings,
    })
}

/// How much is done, in multiply-adds.
struct Meter {
    done: f64,
    total: f64,
    tokens_total: usize,
}

impl Meter {
    fn progress(&self, tokens_done: usize, running: Option<Running>) -> Progress {
        let fraction = (self.done / self.total).min(1.0);
        Progress { fraction, tokens_done, tokens_total: self.tokens_total, running }
    }
}
