//! Where a run is, and what it tells whoever watches.

use serde::{Deserialize, Serialize};

/// Losses over held-out text, means over tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldOut {
    /// The objective.
    pub loss: f64,
    /// Divergence from the teacher, factor τ² included.
    pub divergence: f64,
    /// Cross-entropy in nats; its exponential is the perplexity.
    pub cross_entropy: f64,
}

/// The best student so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// The step after which it was.
    pub step: u64,
    /// How good it is.
    pub held_out: HeldOut,
}

/// Where a run is: with the weights and the optimizer's moments, all that is needed to go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps done, skipped ones among them.
    pub step: u64,
    /// Steps that changed the weights.
    pub updates: u32,
    /// Sequences used.
    pub sequences: u64,
    /// Tokens trained on.
    pub tokens: u64,
    /// Steps skipped because a loss or a gradient was not finite.
    pub skipped: u64,
    /// Those since the last that was not.
    pub skipped_in_a_row: u32,
    /// Seconds of training and evaluation.
    pub seconds: f64,
    /// The student as it came.
    pub start: Option<HeldOut>,
    /// The best so far.
    pub best: Option<Best>,
    /// The step of the last evaluation.
    pub evaluated: Option<u64>,
    /// Evaluations since the best.
    pub since_best: u32,
    /// Evaluations in a row that were worse than the start.
    pub worse_in_a_row: u32,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// It was done.
    Finished,
    /// Held-out text became no easier for long enough.
    NoImprovement,
    /// Held-out text became harder than it was for the student as it came.
    WorseThanStart,
    /// The user asked for it.
    Interrupted,
}

/// One line of `metrics.jsonl`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Record {
    /// A training step.
    Step {
        /// Steps done, this one included.
        step: u64,
        /// The objective, the mean over the step's tokens.
        loss: f64,
        /// Divergence from the teacher.
        divergence: f64,
        /// Cross-entropy in nats.
        cross_entropy: f64,
        /// The gradient's norm before it was shortened.
        gradient_norm: f64,
        /// The learning rate.
        learning_rate: f64,
        /// The hidden states' mean squared difference from the teacher's.
        #[serde(skip_serializing_if = "Option::is_none")]
        hidden_mse: Option<f64>,
        /// Whether the student wrote the step's sequences itself.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        on_policy: bool,
        /// False where the step was skipped, for something was not finite.
        applied: bool,
        /// Tokens trained on, this step's included.
        tokens: u64,
        /// Tokens of this step in a second.
        tokens_per_second: f64,
        /// Seconds of training and evaluation so far.
        seconds: f64,
    },
    /// An evaluation on held-out text.
    HeldOut {
        /// Steps done.
        step: u64,
        /// The objective.
        loss: f64,
        /// Divergence from the teacher.
        divergence: f64,
        /// Cross-entropy in nats.
        cross_entropy: f64,
        /// Whether none before was better.
        best: bool,
        /// Seconds of training and evaluation so far.
        seconds: f64,
    },
}
