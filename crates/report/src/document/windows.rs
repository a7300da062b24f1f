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
    let rows = windows.iter().take(WORST).map(|row| {
        let item = row.item.as_deref().unwrap_or_default();
        vec![item.to_owned(), row.shown(), shown(Side::Model, item), shown(Side::Base, item)]
    });
    let columns = ["window", "KL divergence", "perplexity", "original"];
    let table = Table::new("The windows with the largest divergence", &columns, rows.collect());
    Ok(Some(Section {
        id: "windows",
        heading: "By window of the text",
        charts: vec![chart],
        tables: vec![table],
        ..Section::default()
    }))
}

/// What stands at the worst places of windows; none where it was not looked at.
pub fn texts(report: &Report) -> Option<Section> {
    let own = report.of(Scope::Window).filter(|row| report.is_about(Side::Model, row));
    let mut windows: Vec<&Measurement> =
        own.filter(|row| row.metric == Metric::KlDivergence && row.text.is_some()).collect();
    windows.sort_by(|a, b| b.value.unwrap_or(0.0).total_cmp(&a.value.unwrap_or(0.0)));
    let rows: Vec<Vec<String>> = windows
        .iter()
        .map(|row| [&row.item, &row.text].map(|text| text.clone().unwrap_or_default()).to_vec())
        .collect();
    let table = Table::new(
        "The text in front of each place, the token that comes there, and what both models write",
        &["window", "text"],
        rows,
    );
    (!windows.is_empty()).then(|| Section {
        id: "worst",
        heading: "Where the model departs most",
        lead: "The place of the largest divergence in each of the windows with the largest mean.".into(),
        tables: vec![table.texts(&["text"])],
        ..Section::default()
    })
}
