//! What was cut out of a model whole: by structured pruning, or tokens.

use super::{Key, Section, Table};
use crate::charts::{Axes, Colour, Description, Series, lines};
use crate::{Metric, Report, ReportError, Scope, Side};

/// Dimensions before and after, and the influence of every layer; none where nothing was cut out.
pub fn section(report: &Report) -> Result<Option<Section>, ReportError> {
    let items = report.items(Scope::Dimension, Metric::Extent);
    if items.is_empty() {
        return Ok(None);
    }
    let extent = |side, item: &str| {
        report
            .value(side, Scope::Dimension, item, Metric::Extent)
            .map_or_else(String::new, |n| Metric::Extent.show(n))
    };
    let dimensions = items
        .into_iter()
        .map(|item| vec![item.to_owned(), extent(Side::Base, item), extent(Side::Model, item)])
        .collect();
    let (mut stays, mut went, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    for layer in report.items(Scope::Layer, Metric::BlockInfluence) {
        let influence =
            report.value(Side::Model, Scope::Layer, layer, Metric::BlockInfluence).unwrap_or_default();
        let fate = report
            .find(Side::Model, Scope::Layer, Some(layer), Metric::Fate)
            .and_then(|row| row.text.as_deref());
        let point = (layer.parse().unwrap_or_default(), influence);
        if fate == Some("went") {
            went.push(point)
        } else {
            stays.push(point)
        }
        rows.push(vec![
            layer.to_owned(),
            Metric::BlockInfluence.show(influence),
            fate.unwrap_or_default().to_owned(),
        ]);
    }
    let dimensions = Table::new("Dimensions", &["dimension", "before", "after"], dimensions);
    let plain = |lead: String, dimensions: Table| Section {
        id: "cut",
        heading: "What was cut out",
        lead,
        legend: Vec::new(),
        charts: Vec::new(),
        small: false,
        tables: vec![dimensions],
    };
    let Some(share) = report.own(Metric::CutShare).and_then(|row| row.value) else {
        let lead = "Tokens, and with each its rows of the embedding and the head.";
        return Ok(Some(plain(lead.into(), dimensions)));
    };
    let share = Metric::CutShare.show(share);
    if rows.is_empty() {
        let lead = format!(
            "{share} of the layers' parameters, by weights alone: nothing was run through the model."
        );
        return Ok(Some(plain(lead, dimensions)));
    }
    let description = Description {
        id: "chart-influence",
        caption: "Block influence",
        text: "How much each layer changes the residual stream: those that stay, and those that went.",
    };
    let axes = Axes {
        size: (420, 160),
        along: "layer",
        label: |value, decimals| format!("{value:.decimals$}"),
        from_zero: true,
        at_least: 0.0,
        dots: true,
    };
    let series =
        [Series { colour: Colour::Model, points: stays }, Series { colour: Colour::Base, points: went }];
    let charts = vec![lines(&description, &axes, &series)?];
    Ok(Some(Section {
        id: "cut",
        heading: "What was cut out",
        lead: format!(
            "{share} of the layers' parameters. A layer's influence is 1 − the mean cosine of the residual stream in front of it and behind it; \
             the least influential go first."
        ),
        legend: vec![
            Key { variable: "model".into(), label: "stays".into() },
            Key { variable: "base".into(), label: "went".into() },
        ],
        charts,
        small: false,
        tables: vec![
            dimensions,
            Table::new("Layers", &["layer", "block influence", "fate"], rows)
                .texts(&["fate"])
                .folded_beyond(16),
        ],
    }))
}
