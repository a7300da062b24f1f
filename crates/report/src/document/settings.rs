//! What was measured, and how.

use super::{Section, Table};
use crate::{Measurement, Metric, Report, Scope};

/// Settings of the run, and what the figures mean.
pub fn section(report: &Report) -> Section {
    let mut rows: Vec<Vec<String>> = vec![vec!["model".into(), report.model().into()]];
    rows.extend(report.base().map(|base| vec!["original".into(), base.into()]));
    let told = |row: &&Measurement| !matches!(row.metric, Metric::Warning | Metric::Verb);
    for row in report.of(Scope::Run).filter(told) {
        let shown = match (row.metric, row.value) {
            (Metric::Bos, None) => "none".into(),
            _ => row.shown(),
        };
        rows.push(vec![row.metric.label().to_owned(), shown]);
    }
    for metric in [Metric::Seconds, Metric::TokensPerSecond, Metric::PeakMemory] {
        let row = report.own(metric);
        rows.extend(row.map(|row| vec![format!("measuring: {}", metric.label()), row.shown()]));
    }
    let mut lead = String::new();
    if report.own(Metric::Perplexity).is_some() {
        lead += match report.setting_shown(Metric::Windowing).as_deref() {
            Some("side_by_side") => {
                "Perplexity follows llama-perplexity's protocol: the text is cut into windows side by side, each is read from an \
                 empty cache, and the second half of each is scored. "
            }
            Some("strided") => {
                "Windows of the text overlap, as in Hugging Face's guide; of each, what no window before it has scored is scored. "
            }
            _ => "",
        };
        lead += "Standard errors take tokens for independent of each other. ";
    }
    if report.of(Scope::Check).next().is_some() {
        lead += "The gate's bounds come from resampling windows (studentized bootstrap): a limit is kept when even the worse \
                 bound keeps it and broken when even the better one breaks it. ";
    }
    Section {
        id: "settings",
        heading: "How it was measured",
        lead: lead.trim_end().to_owned(),
        tables: vec![Table::new("Settings", &["setting", "value"], rows).texts(&["value"])],
        ..Section::default()
    }
}

/// Things to know about the figures.
pub fn warnings(report: &Report) -> Vec<String> {
    report
        .of(Scope::Run)
        .filter(|row| row.metric == Metric::Warning)
        .filter_map(|row| row.text.clone())
        .collect()
}
