//! Runs side by side.

mod sample;

use sample::everything;
use slmc_report::compare::Comparison;
use slmc_report::{Metric, Report, Rows, Scope};

/// A run of `model` whose own losses are `factor` times those of the sample.
fn run(model: &str, factor: f64) -> (String, Report) {
    let mut report = everything(model);
    for row in report.rows.iter_mut().filter(|row| row.base.is_some() && row.scope == Scope::Summary) {
        if row.metric == Metric::KlDivergence {
            row.value = row.value.map(|value| factor * value);
        }
    }
    (format!("runs/{factor}"), report)
}

fn line(comparison: &Comparison, metric: Metric) -> &slmc_report::compare::Line {
    comparison.lines.iter().find(|line| line.metric == metric).unwrap()
}

#[test]
fn the_best_run_of_each_line_is_marked() {
    let comparison = Comparison::new(&[run("a.gguf", 1.0), run("b.gguf", 0.5), run("c.gguf", 2.0)]);
    let labels: Vec<_> = comparison.columns.iter().map(|column| column.label.as_str()).collect();
    assert_eq!(labels, ["tiny (original)", "a.gguf", "b.gguf", "c.gguf"]);
    assert_eq!(comparison.warnings(), [""; 0]);
    assert_eq!(line(&comparison, Metric::KlDivergence).best, [2]);
    assert_eq!(line(&comparison, Metric::Bytes).best, [0; 0], "they are all of one size");
    let text = comparison.markdown();
    assert!(
        text.contains("| KL divergence |  | 0.00228 ± 0.00008 | **0.00114 ± 0.00008** | 0.00456 ± 0.00008 |"),
        "{text}"
    );
    assert!(text.contains("| size | 5.51 MiB | 1.82 MiB | 1.82 MiB | 1.82 MiB |"), "{text}");
    assert!(text.contains("| generation: time per token, median | 10.40 ms | 6.20 ms |"), "{text}");
}

#[test]
fn other_text_or_windows_make_figures_incomparable() {
    for (metric, value, text) in [
        (Metric::NCtx, Some(256.0), None),
        (Metric::TokensSha256, None, Some("00ff00ff00ff")),
        (Metric::Bos, None, None),
    ] {
        let mut other = run("b.gguf", 0.5);
        let row =
            other.1.rows.iter_mut().find(|row| row.scope == Scope::Run && row.metric == metric).unwrap();
        (row.value, row.text) = (value, text.map(str::to_owned));
        let comparison = Comparison::new(&[run("a.gguf", 1.0), other]);
        assert_eq!(comparison.differences.len(), 1, "{metric:?}");
        let warnings = comparison.warnings();
        assert!(warnings[0].contains("cannot be compared") && warnings[0].contains("a.gguf"), "{warnings:?}");
        for metric in [Metric::Perplexity, Metric::KlDivergence, Metric::Top1Agreement] {
            let line = line(&comparison, metric);
            assert!(!line.comparable && line.best.is_empty(), "{line:?}");
        }
        assert!(line(&comparison, Metric::Bytes).comparable);
        assert!(comparison.markdown().contains("KL divergence (not comparable)"));
    }
}

#[test]
fn another_original_makes_divergences_incomparable_alone() {
    let mut other = run("b.gguf", 0.5);
    for row in other.1.rows.iter_mut().filter(|row| row.base.is_none() && row.metric == Metric::Perplexity) {
        row.value = row.value.map(|value| 1.01 * value);
    }
    let comparison = Comparison::new(&[run("a.gguf", 1.0), other]);
    assert!(line(&comparison, Metric::Perplexity).comparable);
    assert!(!line(&comparison, Metric::KlDivergence).comparable);
    assert_eq!(comparison.columns.len(), 2, "no original stands for both");
    assert!(
        comparison.warnings()[0].contains("the original they are compared with"),
        "{:?}",
        comparison.warnings()
    );
}

#[test]
fn times_of_another_engine_are_not_ranked() {
    let timed = |model: &str, engine: &str, factor: f64| {
        let (path, mut report) = run(model, 1.0);
        let mut rows = Rows::new(model, report.base());
        rows.add(Scope::Run, Metric::Engine).text(engine);
        report.rows.extend(rows.finish());
        for row in report.rows.iter_mut().filter(|row| row.scope == Scope::Latency) {
            row.value = row.value.map(|value| factor * value);
        }
        (path, report)
    };
    let alike = Comparison::new(&[timed("a.gguf", "slmc", 1.0), timed("b.gguf", "slmc", 0.5)]);
    assert_eq!(line(&alike, Metric::LatencyP50).best, [2]);
    let other = Comparison::new(&[timed("a.gguf", "slmc", 1.0), timed("b.gguf", "llama-cpp", 0.5)]);
    assert_eq!(line(&other, Metric::LatencyP50).best, [0; 0]);
    assert!(line(&other, Metric::KlDivergence).comparable);
    let warnings = other.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let told = "differ in engine, so times cannot be compared: slmc (a.gguf), llama-cpp (b.gguf)";
    assert!(warnings[0].contains(told), "{warnings:?}");
}

#[test]
fn tasks_of_other_items_are_not_ranked() {
    let mut other = run("b.gguf", 1.0);
    for row in other.1.rows.iter_mut().filter(|row| row.scope == Scope::Task) {
        row.value = row.value.map(|value| 0.5 * value);
    }
    let comparison = Comparison::new(&[run("a.gguf", 1.0), other]);
    let line = line(&comparison, Metric::Accuracy);
    assert!(!line.comparable && line.best.is_empty());
    assert!(
        comparison.warnings().iter().any(|warning| warning.contains("cloze")),
        "{:?}",
        comparison.warnings()
    );
}

#[test]
fn runs_of_one_name_are_told_apart_and_the_page_has_them() {
    let comparison = Comparison::new(&[run("x/a.gguf", 1.0), run("y/a.gguf", 0.5)]);
    let labels: Vec<_> = comparison.columns[1..].iter().map(|column| column.label.as_str()).collect();
    assert_eq!(labels, ["a.gguf (runs/1)", "a.gguf (runs/0.5)"]);
    let page = comparison.html().unwrap();
    assert!(page.matches("<svg").count() >= 3 && page.contains("a.gguf (runs&#x2f;0.5)"), "{page}");
    assert!(!page.contains("://"));
    let json = serde_json::to_value(&comparison).unwrap();
    let kl = json["lines"].as_array().unwrap().iter().find(|line| line["metric"] == "kl_divergence").unwrap();
    assert_eq!(kl["best"], serde_json::json!([2]));
    assert_eq!(kl["cells"][1]["value"], 0.00228);
}
