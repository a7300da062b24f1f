//! How good a language model is, and how far a compressed one has drifted from its original.
//!
//! [`evaluate`] streams one or two models over a text, block by block. Perplexity follows the protocol of llama.cpp's
//! llama-perplexity or of Hugging Face's guide ([`windows`]), so that the figures line up. The KL divergence from a base model is
//! computed in the same pass, from logits that exist a slice of the vocabulary at a time ([`accumulate`]); llama.cpp writes the
//! base model's log-probabilities to a file of 16-bit values instead. Such a file, or one of a base model's likeliest tokens, can
//! stand in its place ([`kept`]).
//!
//! [`tasks`] are questions with right answers, asked as lm-evaluation-harness asks them; [`likelihood`] is what a model thinks of
//! each, [`paired`] how two models' answers differ, and [`gate`] whether any of this is good enough.

pub mod accumulate;
pub mod breakdown;
pub mod evaluate;
pub mod evaluation;
mod exponential;
pub mod gate;
mod group;
mod heads;
pub mod kept;
mod kernel;
pub mod latency;
mod leaders;
pub mod likelihood;
pub mod paired;
mod plan;
pub mod progress;
pub mod scores;
pub mod spans;
pub mod statistics;
pub mod summary;
pub mod tasks;
pub mod variants;
pub mod windows;
pub mod worst;

pub use breakdown::{DocumentFigures, Figures, PositionFigures};
pub use evaluate::{EvaluateError, Options, Warning, evaluate, evaluate_against};
pub use evaluation::Evaluation;
pub use kept::{
    BasePredictions, KeptBase, KeptPredictions, LlamaLogits, LlamaLogitsError, PredictionFormat, TopKSource,
};
pub use latency::{Latency, LatencyIncrease, Repetition, Spread};
pub use progress::{Progress, Reporter, Running, Silent};
pub use scores::{Drift, Scores, Side};
pub use spans::TextSpans;
pub use summary::{DriftSummary, Summary};
pub use variants::{Variant, mean_divergences};
pub use windows::{Protocol, Window, WindowError, Windowing, Windows};
pub use worst::{WorstWindow, worst_windows};
