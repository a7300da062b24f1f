//! A pruned model as measurements.

use slmc_report::{Metric, Report, Scope};

use super::{Run, about, evaluation, quantize, sizes};
use crate::PipelineError;
use crate::jobs::prune::PruneOutcome;

/// The report of `slmc prune`.
///
/// # Errors
/// A model that cannot be read any more.
pub fn report(outcome: &PruneOutcome, run: &Run) -> Result<Report, PipelineError> {
    let (model, base) = (outcome.output.as_path(), Some(outcome.source.as_path()));
    let mut all = run.rows("prune", model, base);
    let mut rows = about(model, base);
    rows.add(Scope::Run, Metric::Method).text(outcome.method);
    rows.add(Scope::Run, Metric::AskedSparsity).text(outcome.sparsity);
    if let Some(hash) = &outcome.calibration_sha256 {
        rows.add(Scope::Run, Metric::CalibrationSha256).text(hash);
    }
    rows.add(Scope::Run, Metric::PruneSeconds).value(outcome.seconds);
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
    let share = outcome.pruned_weights as f64 / outcome.total_weights.max(1) as f64;
    rows.add(Scope::Summary, Metric::Sparsity).value(share);
    for tensor in &outcome.tensors {
        quantize::add(&mut rows, &tensor.report);
        rows.add(Scope::Tensor, Metric::Sparsity).item(&tensor.report.name).value(tensor.sparsity);
    }
    all.extend(rows.finish());
    Ok(Report::new(all))
}
