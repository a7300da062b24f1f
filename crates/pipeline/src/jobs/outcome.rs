//! What a quantized model is, and what was lost.

use std::path::PathBuf;

use serde::Serialize;
use slmc_quant::plan::Prediction;
use slmc_quant::{IntScheme, Method, Mix};

use super::evaluate::EvaluateOutcome;
use crate::awq::GroupReport;
use crate::export::TensorReport;

/// Which types the tensors of an output have.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Types {
    /// Those of a GGUF mix.
    Mix(Mix),
    /// One integer grid for all linear layers.
    Grid(IntScheme),
}

/// What came out.
#[derive(Debug, Serialize)]
pub struct QuantizeOutcome {
    /// The file or directory written.
    pub output: PathBuf,
    /// The Ollama Modelfile beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modelfile: Option<PathBuf>,
    /// The checkpoint it was made from.
    pub source: PathBuf,
    /// The method.
    pub method: Method,
    /// Which types its tensors have.
    #[serde(flatten)]
    pub types: Types,
    /// What it is expected to lose, where its types were chosen by measured cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prediction: Option<Prediction>,
    /// Bytes of the weight files.
    pub bytes: u64,
    /// Bytes of the checkpoint's weight files.
    pub source_bytes: u64,
    /// Stored bits a weight, metadata not counted.
    pub bits_per_weight: f64,
    /// Wall time of calibrating and writing.
    pub seconds: f64,
    /// Peak resident memory of calibrating and writing.
    pub peak_memory_bytes: Option<u64>,
    /// SHA-256 of the calibration tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration_sha256: Option<String>,
    /// Every tensor.
    pub tensors: Vec<TensorReport>,
    /// What AWQ's search found.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupReport>,
    /// The loss, where it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<EvaluateOutcome>,
}
