//! What came out of structured pruning.

use std::path::PathBuf;

use serde::Serialize;
use slmc_prune::structured::{StructuredImportance, Widths};

use crate::export::TensorReport;
use crate::jobs::evaluate::EvaluateOutcome;
use crate::structured::{Damage, Shape};

/// What came out.
#[derive(Debug, Serialize)]
pub struct StructuredOutcome {
    /// The directory written.
    pub output: PathBuf,
    /// The Ollama Modelfile beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modelfile: Option<PathBuf>,
    /// The checkpoint that it was made from.
    pub source: PathBuf,
    /// How channels and heads were chosen.
    pub importance: StructuredImportance,
    /// Whether what stays was solved for.
    pub solved: bool,
    /// How many of each kind there were.
    pub before: Widths,
    /// What stays.
    pub shape: Shape,
    /// Bytes of the original's weight files.
    pub bytes_before: u64,
    /// Bytes of the weight files.
    pub bytes: u64,
    /// Parameters of the original.
    pub parameters_before: u64,
    /// Parameters, counted in the file.
    pub parameters: u64,
    /// Share of the blocks' parameters that went.
    pub sparsity: f64,
    /// What was measured to spread the budget.
    pub damages: Vec<Damage>,
    /// The divergence that these measurements predicted, in nats per token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted_divergence: Option<f64>,
    /// Every block of the original.
    pub layers: Vec<Layer>,
    /// Wall time of calibrating and writing.
    pub seconds: f64,
    /// Peak resident memory of calibrating and writing.
    pub peak_memory_bytes: Option<u64>,
    /// SHA-256 of the calibration tokens, where any were needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration_sha256: Option<String>,
    /// Every tensor of the result.
    pub tensors: Vec<TensorReport>,
    /// The loss, where it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<EvaluateOutcome>,
}

/// One block of the original.
#[derive(Debug, Serialize)]
pub struct Layer {
    /// Its number there.
    pub layer: usize,
    /// How much it changes the residual stream: 1 − E\[cos\] of it in front and behind; `None` where nothing was run through it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub influence: Option<f64>,
    /// Whether it stays.
    pub kept: bool,
}
