//! What can go wrong in training.

use slmc_checkpoint::{CheckpointError, WriteError};
use slmc_model::ModelError;
use thiserror::Error;

/// A run that cannot go on.
#[derive(Debug, Error)]
pub enum DistillError {
    /// A model cannot be loaded or run.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A kept state cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A state cannot be kept.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Hidden states of a teacher that is not there.
    #[error(
        "hidden states are compared with those of a teacher that runs beside the student; its predictions alone have none"
    )]
    NoHiddenStates,
    /// Losses or gradients that are not finite, again and again.
    #[error(
        "{count} steps in a row, up to step {step}, had a loss or a gradient that is not finite, and were skipped; a lower \
         learning rate may help"
    )]
    NonFinite {
        /// The last of them.
        step: u64,
        /// How many.
        count: u32,
    },
    /// A student or a teacher that predicts nothing.
    #[error(
        "the loss on held-out text is not finite before the first step: the student's or the teacher's activations overflow"
    )]
    Start,
    /// Fewer sequences than a step takes.
    #[error(
        "the text gives {found} sequences of {seq_len} tokens; at least {needed} are needed, some of them to be held out"
    )]
    TooLittleText {
        /// Sequences there are.
        found: usize,
        /// Sequences needed.
        needed: usize,
        /// Tokens of a sequence.
        seq_len: usize,
    },
    /// A kept state that is not of this run.
    #[error("{path}: {reason}")]
    State {
        /// The directory.
        path: std::path::PathBuf,
        /// What is wrong.
        reason: String,
    },
}
