//! What a run is, apart from its models and its data.

use serde::{Deserialize, Serialize};
use slmc_matmul::Precision;

use crate::adamw::AdamWSettings;
use crate::objective::Objective;
use crate::schedule::Schedule;

/// How long a run is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Length {
    /// A number of steps.
    Steps(u64),
    /// Seconds of training and evaluation: the learning rate follows the clock, so that it ends where it should. Two such
    /// runs do not end in the same weights.
    Seconds(f64),
}

/// The settings of a training run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainSettings {
    /// What is trained towards.
    pub objective: Objective,
    /// The optimizer.
    pub optimizer: AdamWSettings,
    /// The learning rate.
    pub schedule: Schedule,
    /// When it ends.
    pub length: Length,
    /// Sequences that run through the models at a time.
    pub batch_size: usize,
    /// Such batches in a step.
    pub accumulation: usize,
    /// The greatest norm of a step's gradient; longer ones are shortened to it.
    pub clip_norm: f32,
    /// Decides the order of sequences.
    pub seed: u64,
    /// Steps between two evaluations on held-out text.
    pub evaluate_every: u64,
    /// Evaluations in a row without a better one after which training stops; `None` for never.
    pub patience: Option<u32>,
    /// Whether the zeros of a pruned student stay.
    pub keep_zeros: bool,
    /// λ: the share of steps that are trained on what the student writes itself.
    pub on_policy: f64,
    /// The weight of the hidden states' mean squared difference from the teacher's; 0 for none.
    pub hidden_mse: f32,
    /// What weights, activations and gradients are rounded to where they are multiplied in a step. Sums, weights, the optimizer and
    /// evaluations are f32.
    #[serde(default)]
    pub precision: Precision,
    /// Whether blocks are run again in the backward pass instead of keeping what they computed.
    pub gradient_checkpointing: bool,
}

impl TrainSettings {
    /// Sequences in a step.
    pub fn sequences_per_step(&self) -> usize {
        self.batch_size * self.accumulation
    }
}
