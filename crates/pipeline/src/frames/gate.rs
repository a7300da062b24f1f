//! A gate's checks as measurements.

use slmc_eval::Evaluation;
use slmc_eval::gate::Check;
use slmc_report::{Metric, Report, Rows, Scope, checks};

use super::{Run, about, evaluation, sizes, tasks};
use crate::PipelineError;
use crate::jobs::gate::{GateOutcome, Metric as Limited, Verdict};

/// The report of `slmc gate`.
///
/// # Errors
/// A model that cannot be read any more.
pub fn report(outcome: &GateOutcome, run: &Run) -> Result<Report, PipelineError> {
    let base = outcome.base.as_deref();
    let mut all = run.rows("gate", &outcome.model, base);
    if let Some(measured) = &outcome.evaluation {
        all.extend(evaluation::settings(measured));
    }
    let mut rows = about(&outcome.model, base);
    rows.add(Scope::Run, Metric::Confidence).value(outcome.confidence);
    rows.add(Scope::Summary, Metric::Verdict).text(verdict(outcome.verdict));
    let bound = outcome.evaluation.as_ref().and_then(|measured| lower_bound(&measured.evaluation));
    outcome.checks.iter().for_each(|check| add(&mut rows, check, bound.as_deref()));
    if let Some(reason) = &outcome.incomparable {
        undecided(&mut rows, "baseline", reason);
    }
    if let Some(reason) = &outcome.incomplete {
        let what = if outcome.tasks.is_some() { "tasks" } else { "evaluation" };
        undecided(&mut rows, what, reason);
    }
    all.extend(rows.finish());
    all.extend(sizes::rows(&outcome.model, base)?);
    if let Some(measured) = &outcome.evaluation {
        all.extend(evaluation::rows(measured));
    }
    if let Some(answered) = &outcome.tasks {
        all.extend(tasks::rows(&outcome.model, base, answered));
    }
    Ok(Report::new(all))
}

/// Why a divergence that keeps its limit proves nothing.
fn lower_bound(evaluation: &Evaluation) -> Option<String> {
    let kept = evaluation.base_logits?;
    let (top_k, vocab_size) = (kept.bound()?, kept.vocab_size);
    Some(format!(
        "at least this: the base's file holds {top_k} of {vocab_size} tokens; cache-logits --top-k {vocab_size} would decide"
    ))
}

fn add(rows: &mut Rows, check: &Check, bound: Option<&str>) {
    let (item, metric) = limit(check.metric);
    let interval = check.interval.as_ref();
    rows.add(Scope::Check, metric)
        .item(item)
        .value(check.value)
        .between(interval.map(|interval| interval.low), interval.map(|interval| interval.high));
    rows.add(Scope::Check, Metric::Limit).item(item).value(check.limit);
    rows.add(Scope::Check, Metric::Verdict).item(item).text(verdict(check.verdict));
    if matches!(check.metric, Limited::AccuracyRatio | Limited::AccuracyOverBaseline)
        && !check.value.is_finite()
    {
        rows.add(Scope::Check, Metric::Reason).item(item).text("the original gets nothing right");
    }
    if let (Limited::KlDivergence, Verdict::Undecided, Some(bound)) = (check.metric, check.verdict, bound) {
        rows.add(Scope::Check, Metric::Reason).item(item).text(bound);
    }
    if let Some(windows) = check.windows_needed {
        rows.add(Scope::Check, Metric::WindowsNeeded).item(item).value(windows as f64);
    }
}

/// Something that nothing could be held against, and why.
fn undecided(rows: &mut Rows, item: &str, reason: &str) {
    rows.add(Scope::Check, Metric::Verdict).item(item).text(verdict(Verdict::Undecided));
    rows.add(Scope::Check, Metric::Reason).item(item).text(reason);
}

/// The limit's name in `slmc.toml`, and what it is about.
fn limit(metric: Limited) -> (&'static str, Metric) {
    match metric {
        Limited::KlDivergence => ("max_kl", Metric::KlDivergence),
        Limited::PerplexityIncrease => ("max_ppl_increase", Metric::PerplexityIncrease),
        Limited::Top1Agreement => ("min_top1", Metric::Top1Agreement),
        Limited::Bytes => ("max_size", Metric::Bytes),
        Limited::AccuracyRatio => ("min_accuracy_ratio", Metric::AccuracyRatio),
        Limited::AccuracyOverBaseline => ("min_baseline_accuracy", Metric::AccuracyOverBaseline),
        Limited::LatencyIncrease => ("max_latency_increase", Metric::LatencyIncrease),
        Limited::KlOverBaseline => ("max_kl_growth", Metric::KlDivergenceGrowth),
    }
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => checks::Verdict::Passed,
        Verdict::Undecided => checks::Verdict::Undecided,
        Verdict::Regression => checks::Verdict::Regression,
    }
    .name()
}
