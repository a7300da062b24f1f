//! The evaluation of one or two models on a text.
//!
//! Models are streamed: a group of windows goes through one block at a time, so that a block is read and decoded once per
//! group, and one block is in memory however large the model is. A base model's blocks come first; what is left of
//! it is the normalized hidden states of the scored positions. After the other model's blocks, both heads go over the
//! vocabulary side by side, a slice at a time.

use std::ops::ControlFlow;

use serde::Serialize;
use slmc_model::{Device, ModelError, WeightSource};
use thiserror::Error;

use crate::accumulate::NonFiniteLogit;
use crate::evaluation::Evaluation;
use crate::group::{Group, Step};
use crate::heads::{Reader, score};
use crate::kept::log_probs::LEFT_OUT;
use crate::kept::{BasePredictions, KeptBase, PredictionFormat};
use crate::plan::{Plan, total_work};
use crate::progress::{Progress, Reporter, Running};
use crate::scores::{Scores, Side};
use crate::windows::{Protocol, Window, WindowError, Windows};

/// What is evaluated, and in how much memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How the text is cut.
    pub protocol: Protocol,
    /// Bytes for hidden states, activations and logits. A group has at least one window, however little this is; beside
    /// it stand one block's weights in f32 and a slice of the head for each model.
    pub memory_budget: usize,
    /// Where a model and its base have heads of different numbers of rows, the rows that mean the same tokens in both: the first
    /// so many. The others must be padding that stands for no token. Both softmaxes then run over the shared rows alone, as if
    /// the padding had no probability: KL divergence needs the same outcomes on both sides, and no text asks for the others. A
    /// padded model's perplexity so is that of its predictions given that no padding comes. `None`: heads must be alike.
    pub shared_vocabulary: Option<usize>,
}

impl Options {
    /// `protocol` within 768 MiB.
    pub fn new(protocol: Protocol) -> Self {
        Self { protocol, memory_budget: 768 << 20, shared_vocabulary: None }
    }
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
    /// A head with rows that the other model's has not.
    #[error(
        "the {side} model's head has {rows} rows, the other's {shared}: the rows beyond stand for no token, and both models' \
         probabilities are over the {shared} that they share"
    )]
    PaddedVocabulary {
        /// The model with more rows.
        side: Side,
        /// Its rows.
        rows: usize,
        /// Rows that both have.
        shared: usize,
    },
    /// Only the likeliest tokens of the base's predictions are known.
    #[error(
        "of the base's predictions the {top_k} likeliest of {vocab_size} tokens are known: KL divergences take all others as one and \
         are lower bounds, which may be less than the divergence from the model itself"
    )]
    LowerBound {
        /// Tokens that are known of each position.
        top_k: usize,
        /// Entries of the vocabulary.
        vocab_size: usize,
    },
    /// The base's predictions are kept in a form that does not say how unlikely some tokens are that came.
    #[error(
        "to {tokens} of the {of} tokens that came the base gives a probability of e⁻¹⁶ or less, and llama-perplexity's file may not say \
         how much less: the base's perplexity can come out too low, and the model's increase over it too high; a base model (--base) \
         has neither"
    )]
    UnlikelyTokens {
        /// Those tokens.
        tokens: usize,
        /// All that were scored.
        of: usize,
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
    /// The reporter cancelled before a window was scored.
    #[error("stopped before anything was measured")]
    Cancelled,
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
    /// A base model's predictions that were kept cannot be read.
    #[error(transparent)]
    Kept(Box<dyn std::error::Error + Send + Sync>),
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
/// depend on the number of threads. Where the reporter cancels, it is of the windows that were scored by then.
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
    // The base model first, so that drift is reported against what was read before.
    let mut subjects = Vec::with_capacity(2);
    subjects.extend(base.map(|source| (Side::Base, source)));
    subjects.push((Side::Model, model));
    let vocabulary = vocabulary(&subjects, options.shared_vocabulary)?;
    run(&subjects, None, vocabulary, tokens, device, options, reporter)
}

/// The same against predictions of a base model that were kept, of the windows that `options` make. Both softmaxes run over the
/// entries of the vocabulary that these are of, the first of the model's; the others must be padding.
///
/// # Errors
/// See [`EvaluateError`].
pub fn evaluate_against(
    model: &dyn WeightSource,
    base: BasePredictions<'_>,
    tokens: &[u32],
    device: Device,
    options: &Options,
    reporter: &mut dyn Reporter,
) -> Result<Evaluation, EvaluateError> {
    let KeptBase { vocab_size: shared, .. } = base.about();
    let rows = model.config().vocab_size;
    if shared > rows {
        return Err(EvaluateError::VocabularyMismatch { base: shared, model: rows });
    }
    let padded = (rows > shared).then_some(Warning::PaddedVocabulary { side: Side::Model, rows, shared });
    run(&[(Side::Model, model)], Some(base), (shared, padded), tokens, device, options, reporter)
}

/// Scores the last of `subjects` beside the one before it, or beside what was kept of one.
fn run(
    subjects: &[Subject<'_>],
    kept: Option<BasePredictions<'_>>,
    (vocab_size, padded): (usize, Option<Warning>),
    tokens: &[u32],
    device: Device,
    options: &Options,
    reporter: &mut dyn Reporter,
) -> Result<Evaluation, EvaluateError> {
    let windows = Windows::new(tokens, &options.protocol)?;
    windows.check_vocabulary(vocab_size)?;
    let longest = windows.all().iter().map(|window| window.len).max().unwrap_or(0);
    let too_long = subjects.iter().filter_map(|subject| exceeds_training(subject, longest));
    let base_logits = kept.as_ref().map(BasePredictions::about);
    let bound = base_logits.and_then(|kept| {
        kept.bound().map(|top_k| Warning::LowerBound { top_k, vocab_size: kept.vocab_size })
    });
    let warnings = too_long.chain(padded).chain(bound).collect();

    let configs: Vec<_> = subjects.iter().map(|(_, source)| source.config()).collect();
    let read = usize::from(matches!(kept, Some(BasePredictions::Llama(_))));
    let plan = Plan::new(&configs, read, &windows, options.memory_budget);
    let mut meter = Meter::new(total_work(&configs, &windows, vocab_size), windows.all());
    let mut scores = Scores::default();
    let mut done = 0;
    for chunks in plan.groups() {
        let group = Group { windows: &windows, chunks, head_rows: plan.head_rows };
        let running = Running::of(&scores);
        let mut step = |work: f64| {
            meter.done += work;
            reporter.progress(&meter.progress(running));
            if reporter.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let Some(scored) = group_scores(&group, subjects, kept, vocab_size, device, &mut step)? else {
            break;
        };
        scores.append(scored);
        done = chunks.last().map_or(done, |chunk| chunk.end);
        meter.tokens_done = windows.all()[..done].iter().map(|window| window.len).sum();
        reporter.progress(&meter.progress(Running::of(&scores)));
        if reporter.is_cancelled() {
            break;
        }
    }
    if done == 0 {
        return Err(EvaluateError::Cancelled);
    }
    let mut evaluation = Evaluation::new(&options.protocol, windows.all(), done, warnings, scores);
    if base_logits.is_some_and(|kept| kept.format == PredictionFormat::LlamaPerplexity) {
        evaluation.warnings.extend(unlikely_tokens(&evaluation.scores));
    }
    Ok(Evaluation { base_logits, ..evaluation })
}

/// What to know where tokens came of which a file in 16 bits says only that they are unlikely.
fn unlikely_tokens(scores: &Scores) -> Option<Warning> {
    let rows = scores.drift.as_deref().unwrap_or_default();
    let tokens = rows.iter().filter(|row| -row.base_nll <= f64::from(LEFT_OUT)).count();
    (tokens > 0).then_some(Warning::UnlikelyTokens { tokens, of: rows.len() })
}

/// The scores of a group's windows, `None` if `step` wants no more.
fn group_scores(
    group: &Group<'_>,
    subjects: &[Subject<'_>],
    kept: Option<BasePredictions<'_>>,
    vocab_size: usize,
    device: Device,
    step: &mut Step<'_>,
) -> Result<Option<Scores>, EvaluateError> {
    let mut readers = Vec::with_capacity(subjects.len());
    for &(side, source) in subjects {
        let states = group.forward(source, device, step).map_err(EvaluateError::model(side))?;
        let Some(states) = states else { return Ok(None) };
        readers.push(Reader { side, source, states });
    }
    score(group, &readers, kept, vocab_size, step)
}

/// A model and the part it plays.
type Subject<'a> = (Side, &'a dyn WeightSource);

/// The entries of the vocabulary that all of `subjects` are scored over, and what to know where they have different ones.
///
/// # Errors
/// They have different ones, and `shared` does not say which of them mean the same.
fn vocabulary(
    subjects: &[Subject<'_>],
    shared: Option<usize>,
) -> Result<(usize, Option<Warning>), EvaluateError> {
    let rows = |&(_, source): &Subject<'_>| source.config().vocab_size;
    let [base, model] = subjects else { return Ok((subjects.first().map_or(0, rows), None)) };
    let (base_rows, model_rows) = (rows(base), rows(model));
    let least = base_rows.min(model_rows);
    if base_rows == model_rows {
        return Ok((least, None));
    }
    let shared = shared
        .filter(|&shared| shared <= least)
        .ok_or(EvaluateError::VocabularyMismatch { base: base_rows, model: model_rows })?;
    let (side, rows) =
        if base_rows > model_rows { (Side::Base, base_rows) } else { (Side::Model, model_rows) };
    Ok((shared, Some(Warning::PaddedVocabulary { side, rows, shared })))
}

fn exceeds_training(&(side, source): &Subject<'_>, n_ctx: usize) -> Option<Warning> {
    let max_position_embeddings = source.config().max_position_embeddings;
    (n_ctx > max_position_embeddings).then_some(Warning::ContextExceedsTraining {
        side,
        n_ctx,
        max_position_embeddings,
    })
}

/// How much is done, in multiply-adds and in tokens.
struct Meter {
    done: f64,
    total: f64,
    tokens_done: usize,
    tokens_total: usize,
}

impl Meter {
    fn new(total: f64, windows: &[Window]) -> Self {
        let tokens_total = windows.iter().map(|window| window.len).sum();
        Self { done: 0.0, total, tokens_done: 0, tokens_total }
    }

    fn progress(&self, running: Option<Running>) -> Progress {
        let fraction = (self.done / self.total).min(1.0);
        let (tokens_done, tokens_total) = (self.tokens_done, self.tokens_total);
        Progress { fraction, tokens_done, tokens_total, running }
    }
}
