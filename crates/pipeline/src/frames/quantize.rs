//! A quantized model as measurements.

use slmc_report::{Metric, Report, Rows, Scope};

use super::{Run, about, evaluation, sizes};
use crate::PipelineError;
use crate::jobs::quantize::{KeptZeros, QuantizeOutcome, TensorReport, Types};

/// The report of `slmc quantize`.
///
/// # Errors
/// A model that cannot be read any more.
pub fn report(outcome: &QuantizeOutcome, run: &Run) -> Result<Report, PipelineError> {
    let (model, base) = (outcome.output.as_path(), Some(outcome.source.as_path()));
    let mut all = run.rows("quantize", model, base);
    let mut rows = about(model, base);
    rows.add(Scope::Run, Metric::Method).text(outcome.method);
    let types = match (&outcome.prediction, &outcome.types) {
        (Some(prediction), _) => format!("by measured cost, {}", prediction.target),
        (None, Types::Mix(mix)) => mix.to_string(),
        (None, Types::Grid(scheme)) => scheme.to_string(),
    };
    rows.add(Scope::Run, Metric::Types).text(types);
    if let Some(hash) = &outcome.calibration_sha256 {
        rows.add(Scope::Run, Metric::CalibrationSha256).text(hash);
    }
    rows.add(Scope::Run, Metric::QuantizeSeconds).value(outcome.seconds);
    if let Some(bytes) = outcome.peak_memory_bytes {
        rows.add(Scope::Run, Metric::PeakMemory).value(bytes as f64);
    }
    all.extend(rows.finish());
    if let Some(measured) = &outcome.evaluation {
        all.extend(evaluation::settings(measured));
    }
    all.extend(sizes::rows(model, base)?);
    if let Some(measured) = &outcome.evaluation {
        all.extend(evaluation::rows(measured));
    }

    let mut rows = about(model, base);
    if let Some(prediction) = &outcome.prediction {
        rows.add(Scope::Summary, Metric::PredictedKlDivergence).value(prediction.kl_divergence);
    }
    if let Some(zeros) = KeptZeros::total(&outcome.tensors) {
        rows.add(Scope::Summary, Metric::ZerosBefore).value(zeros.before as f64);
        rows.add(Scope::Summary, Metric::ZerosKept).value(zeros.kept as f64);
    }
    outcome.tensors.iter().for_each(|tensor| add(&mut rows, tensor));
    all.extend(rows.finish());
    Ok(Report::new(all))
}

/// Adds what became of a tensor.
pub(super) fn add(rows: &mut Rows, tensor: &TensorReport) {
    let (name, shape) = (&tensor.name, &tensor.shape);
    let weights: f64 = shape.iter().map(|&d| d as f64).product();
    rows.add(Scope::Tensor, Metric::Bytes).item(name).value(tensor.bytes as f64).text(tensor.ty);
    rows.add(Scope::Tensor, Metric::Weights)
        .item(name)
        .value(weights)
        .text(slmc_report::number::shape(shape));
    rows.add(Scope::Tensor, Metric::RelativeError).item(name).value(tensor.relative_error);
    if let Some(error) = &tensor.output_error {
        rows.add(Scope::Tensor, Metric::OutputErrorBefore).item(name).value(error.before);
        rows.add(Scope::Tensor, Metric::OutputError).item(name).value(error.after);
    }
    if let Some(zeros) = &tensor.zeros {
        rows.add(Scope::Tensor, Metric::ZerosBefore).item(name).value(zeros.before as f64);
        rows.add(Scope::Tensor, Metric::ZerosKept).item(name).value(zeros.kept as f64);
    }
}
