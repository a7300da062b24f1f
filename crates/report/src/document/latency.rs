//! Time and memory at work.

use super::{Key, Section, Table};
use crate::charts::{Colour, Description, Interval, intervals};
use crate::number::seconds;
use crate::{Metric, Report, ReportError, Scope, report};

/// Latency, speed and memory of every model; none where they were not measured.
pub fn section(report: &Report) -> Result<Option<Section>, ReportError> {
    let mut models: Vec<&str> = Vec::new();
    let mut lines: Vec<(Option<&str>, Metric)> = Vec::new();
    for row in report.of(Scope::Latency) {
        if !models.contains(&row.model.as_str()) {
            models.push(&row.model);
        }
        let line = (row.item.as_deref(), row.metric);
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    if lines.is_empty() {
        return Ok(None);
    }
    let find = |model: &str, (item, metric): (Option<&str>, Metric)| {
        let mut rows = report.of(Scope::Latency).filter(|row| row.model == model && row.metric == metric);
        rows.find(|row| row.item.as_deref() == item)
    };
    let mut columns = vec![""];
    columns.extend(models.iter().map(|model| report::name(model)));
    let rows = lines.iter().map(|line| {
        let label = match line.0 {
            Some(item) => format!("{item}: {}", line.1.label()),
            None => line.1.label().to_owned(),
        };
        let cells = models.iter().map(|model| find(model, *line).map_or_else(String::new, |row| row.shown()));
        std::iter::once(label).chain(cells).collect()
    });
    let table = Table::new("Time and memory", &columns, rows.collect());

    let colour = |model: &str| if model == report.model() { Colour::Model } else { Colour::Base };
    let marks: Vec<Interval> = lines
        .iter()
        .filter(|line| line.1 == Metric::LatencyP50)
        .flat_map(|line| models.iter().map(move |model| (*line, *model)))
        .filter_map(|(line, model)| {
            let value = find(model, line)?.value?;
            let p95 = find(model, (line.0, Metric::LatencyP95)).and_then(|row| row.value);
            let stage = line.0.map_or_else(String::new, |stage| format!(", {stage}"));
            Some(Interval {
                label: format!("{}{stage}", report::name(model)),
                colour: colour(model),
                value,
                bounds: p95.map(|p95| (value, p95)),
                shown: Metric::LatencyP50.show(value),
            })
        })
        .collect();
    let description = Description {
        id: "chart-latency",
        caption: "Time per token",
        text: "A mark at the median of each model, its line to the 95th percentile.",
    };
    let charts = match marks.is_empty() {
        true => Vec::new(),
        false => vec![intervals(&description, &marks, |value, _| seconds_short(value))?],
    };
    let legend = models.iter().map(|model| Key {
        variable: if colour(model) == Colour::Model { "model" } else { "base" }.into(),
        label: report::name(model).to_owned(),
    });
    Ok(Some(Section {
        id: "latency",
        heading: "Speed and memory",
        lead: if charts.is_empty() { "" } else { "Marks are medians; lines reach to the 95th percentile." }
            .into(),
        legend: if charts.is_empty() { Vec::new() } else { legend.collect() },
        charts,
        tables: vec![table],
        ..Section::default()
    }))
}

fn seconds_short(value: f64) -> String {
    if value.abs() < 1.0 { format!("{:.1} ms", 1e3 * value) } else { seconds(value) }
}
