//! The text window by window, and where the model departs most from its base.

use super::{Section, Table};
use crate::charts::{Axes, Colour, Description, Series, lines};
use crate::{Measurement, Metric, Report, ReportError, Scope, Side};

/// Windows told by name.
const WORST: usize = 10;

/// KL divergence by window, and the worst windows; none where there was no base.
pub fn section(report: &Report) -> Result<Option<Section>, ReportError> {
    let own = report.of(Scope::Window).filter(|row| report.is_about(Side::Model, row));
    let mut windows: Vec<&Measurement> = own.filter(|row| row.metric == Metric::KlDivergence).collect();
    if windows.len() < 2 {
        return Ok(None);
    }
    let points = windows.iter().filter_map(|row| Some((row.item.as_deref()?.parse().ok()?, row.value?)));
    let series = Series { colour: Colour::Model, points: points.collect() };
    let description = Description {
        id: "chart-windows",
        caption: "KL divergence by window",
        text: "The mean of each window of the text, in the text's order.",
    };
    let axes = Axes {
        size: (480, 240),
        along: "window",
        label: |value, decimals| format!("{value:.decimals$}"),
        from_zero: true,
        at_least: 0.0,
        dots: false,
    };
    let chart = lines(&description, &axes, &[series])?;

    windows.sort_by(|a, b| b.value.unwrap_or(0.0).total_cmp(&a.value.unwrap_or(0.0)));
    let shown = |side: Side, item: &str| {
        let value = report.value(side, Scope::Window, item, Metric::Perplexity);
        value.map_or_else(String::new, |value| Metric::Perplexity.show(value))
    };
    let texts = windows.iter().take(WORST).any(|row| row.text.is_some());
    let rows = windows.iter().take(WORST).map(|row| {
        let item = row.item.as_deref().unwrap_or_default();
        let mut cells = vec![item.to_owned(), row.shown(), shown(Side::Model, item), shown(Side::Base, item)];
        if texts {
            cells.push(row.text.clone().unwrap_or_default());
        }
        cells
    });
    let mut columns = vec!["window", "KL divergence", "perplexity", "original"];
    if texts {
        columns.push("text");
    }
    let table =
        Table::new("The windows with the largest divergence", &columns, rows.collect()).texts(&["text"]);
    Ok(Some(Section {
        id: "windows",
        heading: "By window of the text",
        charts: vec![chart],
        tables: vec![table],
        ..Section::default()
    }))
}
