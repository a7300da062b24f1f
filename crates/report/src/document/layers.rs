//! Output errors of the layers.

use super::{Key, Section, Table};
use crate::charts::{Axes, Colour, Description, Series, lines};
use crate::layers::place;
use crate::{Metric, Report, ReportError, Scope, Side};

/// The errors of one layer of all blocks: block, the plain way, as stored.
struct Layer<'a> {
    name: &'a str,
    points: Vec<(f64, f64, f64)>,
}

/// Output errors of every layer over the blocks, the plain way and as stored; none where they were not measured.
pub fn section(report: &Report) -> Result<Option<Section>, ReportError> {
    let mut layers: Vec<Layer<'_>> = Vec::new();
    let mut rows = Vec::new();
    for tensor in report.items(Scope::Tensor, Metric::OutputError) {
        let error = |metric| report.value(Side::Model, Scope::Tensor, tensor, metric);
        let (Some(before), Some(after)) = (error(Metric::OutputErrorBefore), error(Metric::OutputError))
        else {
            continue;
        };
        rows.push(vec![tensor.to_owned(), Metric::OutputError.show(before), Metric::OutputError.show(after)]);
        let Some((block, name)) = place(tensor) else { continue };
        let Ok(block) = block.parse() else { continue };
        let point = (block, before, after);
        match layers.iter_mut().find(|layer| layer.name == name) {
            Some(layer) => layer.points.push(point),
            None => layers.push(Layer { name, points: vec![point] }),
        }
    }
    if rows.is_empty() {
        return Ok(None);
    }
    let most = layers.iter().flat_map(|layer| &layer.points).map(|p| p.1.max(p.2)).fold(0.0, f64::max);
    // what needs no calibration to do the same
    let plain = if report.own(Metric::CutShare).is_some() {
        "cut out without solving"
    } else if report.own(Metric::Sparsity).is_some() {
        "pruned by magnitude"
    } else {
        "rounded to nearest"
    };
    let mut charts = Vec::new();
    for layer in &layers {
        let id = format!("chart-layer-{}", charts.len());
        let text = format!(
            "Output errors of {} over the blocks, in per cent: {plain}, and as stored. All charts have one scale.",
            layer.name
        );
        let description = Description { id: &id, caption: layer.name, text: &text };
        let axes = Axes {
            size: (210, 120),
            along: "",
            label: |value, decimals| format!("{:.1$} %", 100.0 * value, decimals.saturating_sub(2)),
            from_zero: true,
            at_least: most,
            dots: true,
        };
        let series = |colour, of: fn(&(f64, f64, f64)) -> f64| Series {
            colour,
            points: layer.points.iter().map(|p| (p.0, of(p))).collect(),
        };
        let both = [series(Colour::Base, |p| p.1), series(Colour::Model, |p| p.2)];
        charts.push(lines(&description, &axes, &both)?);
    }
    let columns = ["tensor", plain, "as stored"];
    Ok(Some(Section {
        id: "layers",
        heading: "Output error of the layers",
        lead: "How far each layer's output is from the float model's on calibration text, ‖Ŵx − y‖ / ‖y‖, block by block."
            .into(),
        legend: vec![
            Key { variable: "base".into(), label: plain.into() },
            Key { variable: "model".into(), label: "as stored".into() },
        ],
        charts,
        small: true,
        tables: vec![Table::new("Output error of every layer", &columns, rows).folded_beyond(8)],
    }))
}
