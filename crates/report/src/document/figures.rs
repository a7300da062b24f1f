//! What to know first.

use super::Figure;
use crate::{Metric, Report, Scope, Side};

/// The headline figures that a report has.
pub fn figures(report: &Report) -> Vec<Figure> {
    let mut figures = Vec::new();
    for metric in [Metric::Bytes, Metric::BitsPerWeight, Metric::Sparsity] {
        if let Some(row) = report.own(metric) {
            let before = report.base_own(metric);
            let note = before.map_or_else(String::new, |before| format!("from {}", before.shown()));
            figures.push(Figure { label: metric.label().into(), value: row.shown(), note });
        }
    }
    if let (Some(kept), Some(before)) = (report.own(Metric::ZerosKept), report.own(Metric::ZerosBefore)) {
        let note = format!("of {}", before.shown());
        figures.push(Figure { label: "zeros kept".into(), value: kept.shown(), note });
    }
    if let Some(row) = report.own(Metric::Perplexity) {
        let before = report.base_own(Metric::Perplexity).and_then(|row| row.value);
        let note = match (before, report.own(Metric::PerplexityIncrease)) {
            (Some(before), Some(increase)) => {
                format!(
                    "{} from {}",
                    increase.value.map_or_else(String::new, |value| increase.metric.show(value)),
                    Metric::Perplexity.show(before)
                )
            }
            _ => error(row.stderr, Metric::Perplexity),
        };
        figures.push(figure(Metric::Perplexity, row.value, note));
    }
    if let Some(row) = report.own(Metric::BitsPerByte) {
        let before = report.base_own(Metric::BitsPerByte);
        let note = before.map_or_else(String::new, |before| format!("from {}", before.shown()));
        figures.push(figure(Metric::BitsPerByte, row.value, note));
    }
    for metric in [Metric::KlDivergence, Metric::Top1Agreement] {
        if let Some(row) = report.own(metric) {
            figures.push(figure(metric, row.value, error(row.stderr, metric)));
        }
    }
    for task in report.items(Scope::Task, Metric::Accuracy) {
        if let Some(value) = report.value(Side::Model, Scope::Task, task, Metric::Accuracy) {
            let before = report.value(Side::Base, Scope::Task, task, Metric::Accuracy);
            let note =
                before.map_or_else(String::new, |before| format!("from {}", Metric::Accuracy.show(before)));
            figures.push(Figure {
                label: format!("accuracy, {task}"),
                value: Metric::Accuracy.show(value),
                note,
            });
        }
    }
    for (item, metric) in [("generation", Metric::LatencyP50), ("generation", Metric::TokensPerSecond)] {
        if let Some(value) = report.value(Side::Model, Scope::Latency, item, metric) {
            let before = report.value(Side::Base, Scope::Latency, item, metric);
            let note = before.map_or_else(String::new, |before| format!("from {}", metric.show(before)));
            figures.push(figure(metric, Some(value), note));
        }
    }
    figures
}

fn figure(metric: Metric, value: Option<f64>, note: String) -> Figure {
    Figure {
        label: metric.label().into(),
        value: value.map_or_else(|| "—".into(), |value| metric.show(value)),
        note,
    }
}

fn error(stderr: Option<f64>, metric: Metric) -> String {
    stderr.map_or_else(String::new, |stderr| format!("± {}", metric.show_error(stderr)))
}
