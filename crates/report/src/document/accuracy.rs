//! Tasks.

use super::{Key, Section, Table};
use crate::charts::{Colour, Description, Interval, intervals};
use crate::{Measurement, Metric, Report, ReportError, Scope, Side, report};

/// Accuracy of every task with its interval; none where no task was run.
pub fn section(report: &Report) -> Result<Option<Section>, ReportError> {
    const SCORES: [Metric; 4] =
        [Metric::Accuracy, Metric::AccuracyNormalized, Metric::MacroF1, Metric::ExactMatch];
    let find = |side: Side, task: &str, metric: Metric| report.find(side, Scope::Task, Some(task), metric);
    let (mut marks, mut rows) = (Vec::new(), Vec::new());
    for metric in SCORES {
        for task in report.items(Scope::Task, metric) {
            let (own, before) = (find(Side::Model, task, metric), find(Side::Base, task, metric));
            for (row, colour) in [(before, Colour::Base), (own, Colour::Model)] {
                let Some((row, value)) = row.and_then(|row| Some((row, row.value?))) else { continue };
                let whose = if colour == Colour::Base { ", original" } else { "" };
                let label = format!("{task}, {}{whose}", metric.label());
                marks.push(Interval {
                    label,
                    colour,
                    value,
                    bounds: row.bounds(),
                    shown: metric.show(value),
                });
            }
            let shown = |row: Option<&Measurement>| row.map_or_else(String::new, Measurement::shown);
            let count = |metric| shown(find(Side::Model, task, metric));
            let changed = [Metric::ItemsLost, Metric::ItemsWon].map(count).join(" / ");
            rows.push(vec![
                format!("{task}, {}", metric.label()),
                shown(own),
                shown(before),
                count(Metric::Items),
                changed.trim_matches([' ', '/']).to_owned(),
            ]);
        }
    }
    if rows.is_empty() {
        return Ok(None);
    }
    let description = Description {
        id: "chart-accuracy",
        caption: "Accuracy with 95 % intervals",
        text: "A mark for each task and model on the line of its interval.",
    };
    let chart = intervals(&description, &marks, |value, _| format!("{:.0} %", 100.0 * value))?;
    let mut legend = vec![Key { variable: "model".into(), label: report::name(report.model()).to_owned() }];
    if let Some(base) = report.base() {
        legend.insert(0, Key { variable: "base".into(), label: report::name(base).to_owned() });
    }
    let columns = ["task", "measured", "original", "items", "lost / won"];
    Ok(Some(Section {
        id: "accuracy",
        heading: "Accuracy",
        legend,
        charts: vec![chart],
        tables: vec![Table::new("Tasks, ± one standard error", &columns, rows).without_empty_columns()],
        ..Section::default()
    }))
}
