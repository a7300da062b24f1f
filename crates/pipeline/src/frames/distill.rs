//! A training run as measurements.

use std::path::Path;

use serde_json::Value;
use slmc_report::{Metric, Report, Rows, Scope};

use super::{Run, about};
use crate::PipelineError;
use crate::jobs::distill::{DistillOutcome, HeldOut};

/// What lines of `metrics.jsonl` hold, by kind.
const STEP: &[(&str, Metric)] = &[
    ("loss", Metric::Loss),
    ("divergence", Metric::Divergence),
    ("cross_entropy", Metric::CrossEntropy),
    ("gradient_norm", Metric::GradientNorm),
    ("learning_rate", Metric::LearningRate),
    ("tokens_per_second", Metric::TokensPerSecond),
];

/// The report of `slmc distill`.
///
/// # Errors
/// An output that cannot be read any more.
pub fn report(outcome: &DistillOutcome, run: &Run) -> Result<Report, PipelineError> {
    let (model, base) = (outcome.output.as_path(), Some(Path::new(&outcome.student)));
    let mut all = run.rows("distill", model, base);
    let mut rows = about(model, base);
    let objective = &outcome.objective;
    let method = match objective.needs_teacher() {
        true => format!(
            "{} from {} at temperature {}, α {}",
            objective.divergence,
            outcome.teacher.display(),
            objective.temperature,
            objective.alpha
        ),
        false => "cross-entropy with the text alone".to_owned(),
    };
    rows.add(Scope::Run, Metric::Method).text(method);
    rows.add(Scope::Summary, Metric::Seconds).value(outcome.seconds);
    rows.add(Scope::Summary, Metric::TokensPerSecond).value(outcome.tokens_per_second);
    if let Some(bytes) = outcome.peak_memory_bytes {
        rows.add(Scope::Summary, Metric::PeakMemory).value(bytes as f64);
    }
    rows.add(Scope::Summary, Metric::Bytes).value(outcome.bytes as f64);
    rows.add(Scope::Summary, Metric::Weights).value(outcome.parameters as f64);
    rows.add(Scope::Summary, Metric::TrainedWeights).value(outcome.trained_parameters as f64);
    add(&mut rows, &outcome.best);
    let increase = (outcome.best.cross_entropy - outcome.start.cross_entropy).exp_m1();
    rows.add(Scope::Summary, Metric::PerplexityIncrease).value(increase);
    let path = outcome.output.join("metrics.jsonl");
    let text = std::fs::read_to_string(&path).map_err(crate::work::WorkError::io(&path))?;
    for line in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let Some(step) = line["step"].as_u64() else { continue };
        let (scope, metrics) = match line["kind"].as_str() {
            Some("step") => (Scope::Step, STEP),
            _ => (Scope::HeldOut, &STEP[..3]),
        };
        for (name, metric) in metrics {
            // JSON has no number for what is not finite.
            if let Some(value) = line[*name].as_f64() {
                rows.add(scope, *metric).item(step).value(value);
            }
        }
    }
    all.extend(rows.finish());
    let mut rows = about(Path::new(&outcome.student), None);
    add(&mut rows, &outcome.start);
    all.extend(rows.finish());
    Ok(Report::new(all))
}

/// Losses on held-out text of one model.
fn add(rows: &mut Rows, held_out: &HeldOut) {
    rows.add(Scope::Summary, Metric::Perplexity).value(held_out.cross_entropy.exp());
    rows.add(Scope::Summary, Metric::Loss).value(held_out.loss);
    rows.add(Scope::Summary, Metric::Divergence).value(held_out.divergence);
    rows.add(Scope::Summary, Metric::CrossEntropy).value(held_out.cross_entropy);
}
