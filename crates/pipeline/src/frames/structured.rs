//! A model out of which parts were cut, as measurements.

use slmc_prune::structured::{Kind, Widths};
use slmc_report::{Metric, Report, Rows, Scope};

use super::{Run, about, evaluation, quantize, sizes};
use crate::PipelineError;
use crate::jobs::structured::StructuredOutcome;

/// The report of `slmc prune --structured`.
///
/// # Errors
/// A model that cannot be read any more.
pub fn report(outcome: &StructuredOutcome, run: &Run) -> Result<Report, PipelineError> {
    let (model, base) = (outcome.output.as_path(), Some(outcome.source.as_path()));
    let mut all = run.rows("prune", model, base);
    let mut rows = about(model, base);
    let solved = if outcome.solved { "solved by least squares" } else { "left as it was" };
    let method = format!("structured, by {}; what stays {solved}", outcome.importance);
    rows.add(Scope::Run, Metric::Method).text(method);
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
    rows.add(Scope::Summary, Metric::CutShare).value(outcome.sparsity);
    if let Some(predicted) = outcome.predicted_divergence {
        rows.add(Scope::Summary, Metric::PredictedKlDivergence).value(predicted);
    }
    extents(&mut rows, outcome.shape.widths);
    for layer in &outcome.layers {
        if let Some(influence) = layer.influence {
            rows.add(Scope::Layer, Metric::BlockInfluence).item(layer.layer).value(influence);
        }
        let fate = if layer.kept { "stays" } else { "went" };
        rows.add(Scope::Layer, Metric::Fate).item(layer.layer).text(fate);
    }
    outcome.tensors.iter().for_each(|tensor| quantize::add(&mut rows, tensor));
    all.extend(rows.finish());
    let mut rows = about(outcome.source.as_path(), None);
    extents(&mut rows, outcome.before);
    all.extend(rows.finish());
    Ok(Report::new(all))
}

fn extents(rows: &mut Rows, widths: Widths) {
    for kind in Kind::ALL {
        let extent = if kind == Kind::QueryHeads { widths.query_heads() } else { widths.of(kind) };
        rows.add(Scope::Dimension, Metric::Extent).item(kind).value(extent as f64);
    }
}
