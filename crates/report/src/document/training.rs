//! How a training run went.

use super::{Section, Table};
use crate::charts::{Axes, Colour, Description, Series, lines};
use crate::{Metric, Report, ReportError, Scope, Side};

/// Losses over the steps of a run; none where nothing was trained.
pub fn section(report: &Report) -> Result<Option<Section>, ReportError> {
    let series = |scope: Scope, metric: Metric| -> Vec<(f64, f64)> {
        let rows = report.of(scope).filter(|row| row.metric == metric && report.is_about(Side::Model, row));
        let finite = |row: &crate::Measurement| row.value.filter(|value| value.is_finite());
        rows.filter_map(|row| Some((row.item.as_deref()?.parse().ok()?, finite(row)?))).collect()
    };
    let axes = Axes {
        size: (480, 240),
        along: "steps",
        label: |value, decimals| format!("{value:.decimals$}"),
        from_zero: false,
        at_least: f64::NEG_INFINITY,
        dots: false,
    };
    let mut charts = Vec::new();
    let (steps, held_out) = (series(Scope::Step, Metric::Loss), series(Scope::HeldOut, Metric::Loss));
    if held_out.len() > 1 {
        let description = Description {
            id: "chart-training-loss",
            caption: "Loss",
            text: "Grey: of each step's sequences. Blue: on held-out text.",
        };
        let both = [
            Series { colour: Colour::Base, points: steps },
            Series { colour: Colour::Model, points: held_out },
        ];
        charts.push(lines(&description, &axes, &both)?);
        for (id, caption, metric) in [
            ("chart-training-divergence", "Divergence from the teacher", Metric::Divergence),
            ("chart-training-cross-entropy", "Cross-entropy", Metric::CrossEntropy),
        ] {
            let points = series(Scope::HeldOut, metric);
            // Without a teacher there is no divergence.
            if points.iter().any(|point| point.1 != 0.0) {
                let description = Description { id, caption, text: "On held-out text." };
                charts.push(lines(&description, &axes, &[Series { colour: Colour::Model, points }])?);
            }
        }
    }
    let metrics = [Metric::Loss, Metric::Divergence, Metric::CrossEntropy];
    let rows: Vec<Vec<String>> = report
        .items(Scope::HeldOut, Metric::Loss)
        .iter()
        .map(|item| {
            let shown = metrics.map(|metric| {
                let value = report.value(Side::Model, Scope::HeldOut, item, metric);
                value.map_or_else(String::new, |value| metric.show(value))
            });
            [&[(*item).to_owned()][..], &shown].concat()
        })
        .collect();
    if rows.is_empty() {
        return Ok(None);
    }
    let heads = ["after step", "loss", "divergence", "cross-entropy"];
    let table = Table::new("On held-out text", &heads, rows).folded_beyond(12);
    Ok(Some(Section {
        id: "training",
        heading: "Training",
        charts,
        tables: vec![table],
        ..Section::default()
    }))
}
