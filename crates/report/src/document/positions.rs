//! Losses by how much context a prediction had.

use super::{Section, Table};
use crate::charts::{Axes, Colour, Description, Series, lines};
use crate::{Metric, Report, ReportError, Scope, Side};

/// Perplexity and KL divergence over the length of context; none where it was not told apart.
pub fn section(report: &Report) -> Result<Option<Section>, ReportError> {
    let series = |side: Side, metric: Metric| -> Vec<(f64, f64)> {
        let rows =
            report.of(Scope::Position).filter(|row| row.metric == metric && report.is_about(side, row));
        rows.filter_map(|row| Some((row.item.as_deref()?.parse().ok()?, row.value?))).collect()
    };
    let mut charts = Vec::new();
    let kl = series(Side::Model, Metric::KlDivergence);
    let axes = Axes {
        size: (480, 240),
        along: "tokens of context",
        label: |value, decimals| format!("{value:.decimals$}"),
        from_zero: true,
        at_least: 0.0,
        dots: false,
    };
    if kl.len() > 1 {
        let description = Description {
            id: "chart-position-kl",
            caption: "KL divergence by length of context",
            text: "Mean over all windows.",
        };
        charts.push(lines(&description, &axes, &[Series { colour: Colour::Model, points: kl }])?);
    }
    let perplexity = series(Side::Model, Metric::Perplexity);
    if perplexity.len() > 1 {
        let before = series(Side::Base, Metric::Perplexity);
        let both = [
            Series { colour: Colour::Base, points: before },
            Series { colour: Colour::Model, points: perplexity },
        ];
        let description = Description {
            id: "chart-position-ppl",
            caption: "Perplexity by length of context",
            text: "Over all windows.",
        };
        let axes = Axes { from_zero: false, ..axes };
        charts.push(lines(&description, &axes, &both)?);
    }
    if charts.is_empty() {
        return Ok(None);
    }
    let metrics = [Metric::Perplexity, Metric::KlDivergence];
    let mut items = report.items(Scope::Position, Metric::Perplexity);
    items.extend(
        report
            .items(Scope::Position, Metric::KlDivergence)
            .iter()
            .filter(|item| !items.contains(item))
            .copied()
            .collect::<Vec<_>>(),
    );
    let rows = items.iter().map(|item| {
        let values = metrics.map(|metric| {
            let value = report.value(Side::Model, Scope::Position, item, metric);
            value.map_or_else(String::new, |value| metric.show(value))
        });
        [&[(*item).to_owned()][..], &values].concat()
    });
    let table = Table::new(
        "By length of context",
        &["tokens of context, from", "perplexity", "KL divergence"],
        rows.collect(),
    )
    .folded_beyond(0);
    Ok(Some(Section {
        id: "positions",
        heading: "By length of context",
        charts,
        tables: vec![table],
        ..Section::default()
    }))
}
