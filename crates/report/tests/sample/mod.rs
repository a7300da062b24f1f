//! A report with rows of every kind, as a gate over an evaluated and quantized model would leave it.
#![allow(dead_code)] // not every test file uses everything

use slmc_report::{Metric, Report, Rows, Scope};

/// The model's path, with everything in it that HTML, Markdown and XML take for their own.
pub const HOSTILE: &str = "out/<script>alert('1')</script>|`*_&\"q4.gguf";
/// The base's.
pub const BASE: &str = "models/tiny";

/// Rows of every scope.
pub fn everything(model: &str) -> Report {
    let mut rows = Rows::new(model, Some(BASE));
    run(&mut rows);
    let summary = [
        (Metric::Bytes, 1_908_736.0, None),
        (Metric::BitsPerWeight, 5.131, None),
        (Metric::Tokens, 16_384.0, None),
        (Metric::Perplexity, 200.562, Some(4.1)),
        (Metric::PerplexityIncrease, 0.0073, Some(0.0011)),
        (Metric::KlDivergence, 0.00228, Some(0.00008)),
        (Metric::Top1Agreement, 0.958, Some(0.0016)),
        (Metric::Seconds, 4.25, None),
        (Metric::PeakMemory, 123e6, None),
    ];
    for (metric, value, stderr) in summary {
        rows.add(Scope::Summary, metric).value(value).stderr = stderr;
    }
    rows.add(Scope::Summary, Metric::Verdict).text("regression");
    for (item, value) in [("p5", 1e-5), ("median", 0.0012), ("p95", 0.008), ("p99", 0.02), ("max", 0.31)] {
        rows.add(Scope::Distribution, Metric::KlDivergence).item(item).value(value);
    }
    histogram(&mut rows);
    losses(&mut rows);
    tensors(&mut rows);
    checks(&mut rows);
    let task = [(Metric::Accuracy, 0.71), (Metric::AccuracyNormalized, 0.74)];
    for (metric, value) in task {
        rows.add(Scope::Task, metric).item("cloze").value(value).stderr(0.03);
    }
    rows.add(Scope::Task, Metric::Items).item("cloze").value(200.0);
    rows.add(Scope::Task, Metric::ItemsLost).item("cloze").value(5.0);
    rows.add(Scope::Task, Metric::ItemsWon).item("cloze").value(2.0);
    for (stage, p50, p95) in [("prompt", 0.0011, 0.0014), ("generation", 0.0062, 0.0071)] {
        rows.add(Scope::Latency, Metric::LatencyP50).item(stage).value(p50);
        rows.add(Scope::Latency, Metric::LatencyP95).item(stage).value(p95);
        rows.add(Scope::Latency, Metric::TokensPerSecond).item(stage).value(1.0 / p50);
    }
    rows.add(Scope::Latency, Metric::PeakMemory).value(31e6);

    let mut base = Rows::new(BASE, None::<String>);
    base.add(Scope::Summary, Metric::Bytes).value(5_774_560.0);
    base.add(Scope::Summary, Metric::BitsPerWeight).value(16.011);
    base.add(Scope::Summary, Metric::Perplexity).value(199.099).stderr(4.05);
    for (kind, bytes, weights) in
        [("embedding", 2_097_152.0, 1_048_576.0), ("attention", 1_572_864.0, 786_432.0)]
    {
        base.add(Scope::Kind, Metric::Bytes).item(kind).value(bytes);
        base.add(Scope::Kind, Metric::Weights).item(kind).value(weights);
    }
    for window in 0..24 {
        base.add(Scope::Window, Metric::Perplexity).item(window).value(190.0 + f64::from(window));
    }
    for position in (64..128).step_by(8) {
        base.add(Scope::Position, Metric::Perplexity).item(position).value(220.0 - f64::from(position) / 4.0);
    }
    base.add(Scope::Task, Metric::Accuracy).item("cloze").value(0.725).stderr(0.03);
    for (stage, p50, p95) in [("prompt", 0.0018, 0.0021), ("generation", 0.0104, 0.0125)] {
        base.add(Scope::Latency, Metric::LatencyP50).item(stage).value(p50);
        base.add(Scope::Latency, Metric::LatencyP95).item(stage).value(p95);
        base.add(Scope::Latency, Metric::TokensPerSecond).item(stage).value(1.0 / p50);
    }
    base.add(Scope::Latency, Metric::PeakMemory).value(62e6);
    let mut all = rows.finish();
    all.extend(base.finish());
    Report::new(all)
}

fn run(rows: &mut Rows) {
    rows.add(Scope::Run, Metric::Verb).text("gate");
    rows.add(Scope::Run, Metric::Version).text("0.1.0");
    rows.add(Scope::Run, Metric::Command).text("slmc gate out.gguf --base models/tiny --max-kl 0.002");
    rows.add(Scope::Run, Metric::MeasuredText).text("bundled:english, held out");
    rows.add(Scope::Run, Metric::TokensSha256)
        .text("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08");
    rows.add(Scope::Run, Metric::Windowing).text("side_by_side");
    rows.add(Scope::Run, Metric::NCtx).value(128.0);
    rows.add(Scope::Run, Metric::Stride).value(128.0);
    rows.add(Scope::Run, Metric::Bos).value(1.0);
    rows.add(Scope::Run, Metric::Windows).value(24.0);
    rows.add(Scope::Run, Metric::Confidence).value(0.95);
    rows.add(Scope::Run, Metric::Warning)
        .text("windows of 128 tokens, but the base model was made for at most 64");
}

fn histogram(rows: &mut Rows) {
    let edge = |n: i32| 10_f64.powf(f64::from(n) / 4.0);
    rows.add(Scope::Histogram, Metric::Tokens).item("under").between(None, Some(edge(-32))).value(31.0);
    for n in -32..-2 {
        let count = (900.0 * (-f64::from(n + 13).powi(2) / 30.0).exp()).round();
        rows.add(Scope::Histogram, Metric::Tokens)
            .item(n)
            .between(Some(edge(n)), Some(edge(n + 1)))
            .value(count);
    }
}

fn losses(rows: &mut Rows) {
    for window in 0..24_i32 {
        let kl = 0.0019 + 0.0001 * f64::from(window * 7 % 11);
        let row = rows.add(Scope::Window, Metric::KlDivergence).item(window).value(kl);
        row.text = (window == 3).then(|| "<b>Once upon a time | there was ⟨a⟩".to_owned());
        rows.add(Scope::Window, Metric::Perplexity).item(window).value(192.0 + f64::from(window));
    }
    for document in 0..3 {
        rows.add(Scope::Document, Metric::KlDivergence)
            .item(document)
            .value(0.002 + 0.001 * f64::from(document));
        rows.add(Scope::Document, Metric::BitsPerByte).item(document).value(1.5);
    }
    for position in (64..128).step_by(8) {
        let kl = 0.0032 - f64::from(position) * 1e-5;
        rows.add(Scope::Position, Metric::KlDivergence).item(position).value(kl);
        rows.add(Scope::Position, Metric::Perplexity).item(position).value(222.0 - f64::from(position) / 4.0);
    }
}

fn tensors(rows: &mut Rows) {
    for (kind, bytes, weights) in [("embedding", 860_160.0, 1_048_576.0), ("attention", 442_368.0, 786_432.0)]
    {
        rows.add(Scope::Kind, Metric::Bytes).item(kind).value(bytes);
        rows.add(Scope::Kind, Metric::Weights).item(kind).value(weights);
    }
    for block in 0..6 {
        for (n, layer) in
            ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"].iter().enumerate()
        {
            let name = format!("blk.{block}.{layer}.weight");
            let before = 0.05 + 0.01 * n as f64 + 0.004 * f64::from(block);
            rows.add(Scope::Tensor, Metric::Bytes).item(&name).value(36_864.0).text("q4_k");
            rows.add(Scope::Tensor, Metric::Weights).item(&name).value(65_536.0).text("256 × 256");
            rows.add(Scope::Tensor, Metric::RelativeError).item(&name).value(0.08);
            rows.add(Scope::Tensor, Metric::OutputErrorBefore).item(&name).value(before);
            rows.add(Scope::Tensor, Metric::OutputError).item(&name).value(0.55 * before);
        }
    }
}

fn checks(rows: &mut Rows) {
    let check = |rows: &mut Rows, item: &str, metric, value: f64, limit: f64, verdict: &str| {
        rows.add(Scope::Check, metric)
            .item(item)
            .value(value)
            .between(Some(0.94 * value), Some(1.07 * value));
        rows.add(Scope::Check, Metric::Limit).item(item).value(limit);
        rows.add(Scope::Check, Metric::Verdict).item(item).text(verdict);
    };
    check(rows, "max_kl", Metric::KlDivergence, 0.00228, 0.002, "regression");
    check(rows, "max_ppl_increase", Metric::PerplexityIncrease, 0.0073, 0.0075, "undecided");
    rows.add(Scope::Check, Metric::WindowsNeeded).item("max_ppl_increase").value(310.0);
    check(rows, "min_top1", Metric::Top1Agreement, 0.958, 0.9, "passed");
    rows.add(Scope::Check, Metric::Bytes).item("max_size").value(1_908_736.0);
    rows.add(Scope::Check, Metric::Limit).item("max_size").value(2e6);
    rows.add(Scope::Check, Metric::Verdict).item("max_size").text("passed");
    rows.add(Scope::Check, Metric::Verdict).item("baseline").text("undecided");
    rows.add(Scope::Check, Metric::Reason).item("baseline").text("the baseline was measured on another text");
}
