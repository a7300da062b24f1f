//! Timings as measurements.

use slmc_report::{Metric, Report, Rows, Scope};

use super::{Run, about, sizes};
use crate::PipelineError;
use crate::jobs::bench::{BenchOutcome, Benchmarked, Spread};

/// The report of `slmc bench`.
///
/// # Errors
/// A model that cannot be read any more.
pub fn report(outcome: &BenchOutcome, run: &Run) -> Result<Report, PipelineError> {
    let (model, base) = (outcome.model.model.as_path(), outcome.base.as_ref());
    let base_path = base.map(|base| base.model.as_path());
    let mut all = run.rows("bench", model, base_path);
    all.extend(sizes::rows(model, base_path)?);
    let mut rows = about(model, base_path);
    let amount = &outcome.amount;
    rows.add(Scope::Run, Metric::Engine).text(outcome.engine);
    if let Some(device) = &outcome.device {
        rows.add(Scope::Run, Metric::Device).text(device);
    }
    for (metric, value) in [
        (Metric::Threads, outcome.threads),
        (Metric::PromptTokens, amount.prompt_tokens),
        (Metric::GeneratedTokens, amount.generated_tokens),
        (Metric::Repetitions, amount.repetitions),
        (Metric::Warmup, amount.warmup),
    ] {
        rows.add(Scope::Run, metric).value(value as f64);
    }
    add(&mut rows, &outcome.model);
    if let Some(increase) = &outcome.latency_increase {
        let bounds = increase.interval;
        rows.add(Scope::Latency, Metric::LatencyIncrease)
            .item("generation")
            .value(increase.value)
            .between(bounds.map(|bounds| bounds.low), bounds.map(|bounds| bounds.high));
    }
    all.extend(rows.finish());
    if let Some(base) = base {
        let mut rows = about(&base.model, None);
        add(&mut rows, base);
        all.extend(rows.finish());
    }
    Ok(Report::new(all))
}

fn add(rows: &mut Rows, of: &Benchmarked) {
    let latency = &of.latency;
    rows.add(Scope::Latency, Metric::LoadSeconds).value(of.load_seconds);
    if let Some(bytes) = of.peak_memory_bytes {
        rows.add(Scope::Latency, Metric::PeakMemory).value(bytes as f64);
    }
    let mut spread = |item, metric, spread: Spread| {
        rows.add(Scope::Latency, metric)
            .item(item)
            .value(spread.median)
            .between(Some(spread.min), Some(spread.max));
    };
    spread("prompt", Metric::FirstTokenSeconds, latency.first_token_seconds);
    spread("prompt", Metric::TokensPerSecond, latency.prompt_tokens_per_second);
    spread("generation", Metric::TokensPerSecond, latency.tokens_per_second);
    rows.add(Scope::Latency, Metric::LatencyP50).item("generation").value(latency.token_seconds_p50);
    rows.add(Scope::Latency, Metric::LatencyP95).item("generation").value(latency.token_seconds_p95);
}
