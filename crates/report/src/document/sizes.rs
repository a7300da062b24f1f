//! Where the bytes are.

use super::{Key, Section, Table};
use crate::charts::{Bar, Description, stacked};
use crate::number::bytes;
use crate::{Metric, Report, ReportError, Scope, Side, report};

/// Bytes by kind of tensor, of the model and of its base.
pub fn section(report: &Report) -> Result<Option<Section>, ReportError> {
    let kinds = report.items(Scope::Kind, Metric::Bytes);
    if kinds.is_empty() {
        return Ok(None);
    }
    let of = |side, metric| -> Vec<f64> {
        kinds.iter().map(|kind| report.value(side, Scope::Kind, kind, metric).unwrap_or(0.0)).collect()
    };
    let mut sides: Vec<(Side, &str)> = report.base().map(|base| (Side::Base, base)).into_iter().collect();
    sides.push((Side::Model, report.model()));
    sides.retain(|(side, _)| of(*side, Metric::Bytes).iter().sum::<f64>() > 0.0);
    let bars: Vec<Bar> = sides
        .iter()
        .map(|(side, model)| {
            let parts = of(*side, Metric::Bytes);
            let shown = bytes(parts.iter().sum::<f64>() as u64);
            Bar { label: report::name(model).to_owned(), parts, shown }
        })
        .collect();
    let told: Vec<String> = bars.iter().map(|bar| format!("{} takes {}", bar.label, bar.shown)).collect();
    let description = Description {
        id: "chart-sizes",
        caption: "Size by kind of tensor",
        text: &format!("One bar a model, all of one scale, cut by kind of tensor: {}.", told.join(", ")),
    };
    let chart = stacked(&description, &bars)?;

    let mut columns = vec!["kind".to_owned()];
    for (side, _) in &sides {
        let role = if *side == Side::Model { "size" } else { "original" };
        columns.extend([role.to_owned(), "bits per weight".to_owned()]);
    }
    let mut rows: Vec<Vec<String>> = kinds.iter().map(|kind| vec![(*kind).to_owned()]).collect();
    rows.push(vec!["all tensors".to_owned()]);
    for (side, _) in sides {
        let (sizes, weights) = (of(side, Metric::Bytes), of(side, Metric::Weights));
        let all = (sizes.iter().sum::<f64>(), weights.iter().sum::<f64>());
        for (row, (size, weights)) in rows.iter_mut().zip(sizes.into_iter().zip(weights).chain([all])) {
            let bits = if weights > 0.0 { format!("{:.3}", 8.0 * size / weights) } else { String::new() };
            row.extend([bytes(size as u64), bits]);
        }
    }
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let legend = kinds.iter().enumerate();
    Ok(Some(Section {
        id: "size",
        heading: "Size",
        lead: "Bytes of the tensors by what they are for; a file adds its metadata and padding.".into(),
        legend: legend
            .map(|(n, kind)| Key { variable: format!("part-{n}"), label: (*kind).to_owned() })
            .collect(),
        charts: vec![chart],
        tables: vec![Table::new("Bytes and bits per weight", &columns, rows)],
        ..Section::default()
    }))
}
