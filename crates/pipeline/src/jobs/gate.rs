//! Holding a compressed model against limits.

use std::path::PathBuf;

use serde::Serialize;
use slmc_eval::gate::{Check, conclusion, judge};

use super::evaluate::{EvaluateOutcome, EvaluateSettings, Measure, evaluate};
use crate::PipelineError;
use crate::model_file::ModelFile;
use crate::progress::Reporter;

pub use slmc_eval::gate::{FEWEST_WINDOWS, Interval, Limits, Metric, Verdict};

/// What to hold against what.
#[derive(Clone, Debug)]
pub struct GateSettings {
    /// The compressed model.
    pub model: PathBuf,
    /// The original; needed where a limit is on a loss.
    pub base: Option<PathBuf>,
    /// How losses are measured.
    pub measure: Measure,
    /// What may be lost.
    pub limits: Limits,
    /// Of each bound of what was measured, 0.5 to 1.
    pub confidence: f64,
}

/// What came out.
#[derive(Debug, Serialize)]
pub struct GateOutcome {
    /// The conclusion from all checks.
    pub verdict: Verdict,
    /// Every limit.
    pub checks: Vec<Check>,
    /// Of each bound.
    pub confidence: f64,
    /// Bytes of the model's weight files.
    pub bytes: u64,
    /// What was measured, where a limit needed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<EvaluateOutcome>,
}

/// Runs the job.
///
/// # Errors
/// As [`evaluate`]; a limit on a loss without a base.
pub fn gate(settings: &GateSettings, reporter: &dyn Reporter) -> Result<GateOutcome, PipelineError> {
    let bytes = ModelFile::open(&settings.model)?.bytes();
    let evaluation = match settings.limits.need_evaluation() {
        false => None,
        true => {
            let base = settings.base.clone().ok_or(PipelineError::NoBase)?;
            let (model, measure) = (settings.model.clone(), settings.measure.clone());
            Some(evaluate(&EvaluateSettings { model, base: Some(base), measure }, reporter)?)
        }
    };
    let measured = evaluation.as_ref().map(|outcome| &outcome.evaluation);
    let checks = judge(measured, bytes, &settings.limits, settings.confidence);
    let confidence = settings.confidence;
    Ok(GateOutcome { verdict: conclusion(&checks), checks, confidence, bytes, evaluation })
}
