//! An evaluation as measurements.

use slmc_report::{Measurement, Metric, Rows, Scope};

use super::{about, parts, windows};
use crate::jobs::evaluate::{EvaluateOutcome, Windowing};

/// How it was measured.
pub(super) fn settings(outcome: &EvaluateOutcome) -> Vec<Measurement> {
    let evaluation = &outcome.evaluation;
    let mut rows = about(&outcome.model, outcome.base.as_deref());
    rows.add(Scope::Run, Metric::MeasuredText).text(&outcome.text);
    rows.add(Scope::Run, Metric::TokensSha256).text(&outcome.tokens_sha256);
    let windowing = match evaluation.windowing {
        Windowing::SideBySide => "side_by_side",
        Windowing::Strided => "strided",
    };
    rows.add(Scope::Run, Metric::Windowing).text(windowing);
    rows.add(Scope::Run, Metric::NCtx).value(evaluation.n_ctx as f64);
    rows.add(Scope::Run, Metric::Stride).value(evaluation.stride as f64);
    rows.add(Scope::Run, Metric::Bos).value = evaluation.bos.map(f64::from);
    rows.add(Scope::Run, Metric::Windows).value(evaluation.windows as f64);
    if let Some(kept) = &evaluation.base_logits {
        rows.add(Scope::Run, Metric::BaseLogits).text(kept);
    }
    if !evaluation.complete {
        let (done, planned) = (evaluation.windows, evaluation.windows_planned);
        rows.add(Scope::Run, Metric::Warning)
            .text(format!("incomplete: interrupted after {done} of {planned} windows"));
    }
    for warning in &evaluation.warnings {
        rows.add(Scope::Run, Metric::Warning).text(warning);
    }
    rows.finish()
}

/// What was measured.
pub(super) fn rows(outcome: &EvaluateOutcome) -> Vec<Measurement> {
    let summary = &outcome.evaluation.summary;
    let base = outcome.base.as_deref();
    let mut rows = about(&outcome.model, base);
    rows.add(Scope::Summary, Metric::Tokens).value(summary.tokens as f64);
    rows.add(Scope::Summary, Metric::Perplexity).value(summary.perplexity).stderr(summary.perplexity_stderr);
    if let Some(bits) = summary.bits_per_byte {
        rows.add(Scope::Summary, Metric::BitsPerByte).value(bits);
    }
    if let Some(drift) = &summary.drift {
        let (ratio, kl) = (&drift.perplexity_ratio, &drift.kl_divergence);
        rows.add(Scope::Summary, Metric::PerplexityIncrease).value(ratio.mean - 1.0).stderr(ratio.stderr);
        rows.add(Scope::Summary, Metric::KlDivergence).value(kl.mean).stderr(kl.stderr);
        rows.add(Scope::Summary, Metric::Top1Agreement)
            .value(drift.top1_agreement)
            .stderr(drift.top1_agreement_stderr);
        rows.add(Scope::Summary, Metric::Top5Agreement)
            .value(drift.top5_agreement)
            .stderr(drift.top5_agreement_stderr);
        rows.add(Scope::Summary, Metric::DeltaPRms).value(drift.delta_p.rms).stderr(drift.delta_p.rms_stderr);
        let percentiles = [
            ("min", kl.min),
            ("p5", kl.p5),
            ("p25", kl.p25),
            ("median", kl.median),
            ("p75", kl.p75),
            ("p90", kl.p90),
            ("p95", kl.p95),
            ("p99", kl.p99),
            ("p99_9", kl.p999),
            ("max", kl.max),
        ];
        for (item, value) in percentiles {
            rows.add(Scope::Distribution, Metric::KlDivergence).item(item).value(value);
        }
    }
    work(&mut rows, outcome);
    windows::add(&mut rows, outcome);
    parts::add(&mut rows, &outcome.evaluation);
    let mut all = rows.finish();
    if let (Some(base), Some(drift)) = (base, &summary.drift) {
        let mut rows = about(base, None);
        rows.add(Scope::Summary, Metric::Perplexity)
            .value(drift.base_perplexity)
            .stderr(drift.base_perplexity_stderr);
        if let Some(bits) = drift.base_bits_per_byte {
            rows.add(Scope::Summary, Metric::BitsPerByte).value(bits);
        }
        windows::add_base(&mut rows, &outcome.evaluation);
        parts::add_base(&mut rows, &outcome.evaluation);
        all.extend(rows.finish());
    }
    all
}

fn work(rows: &mut Rows, outcome: &EvaluateOutcome) {
    rows.add(Scope::Summary, Metric::Seconds).value(outcome.seconds);
    rows.add(Scope::Summary, Metric::TokensPerSecond).value(outcome.tokens_per_second);
    if let Some(bytes) = outcome.peak_memory_bytes {
        rows.add(Scope::Summary, Metric::PeakMemory).value(bytes as f64);
    }
}
