//! All tensors.

use super::{Section, Table};
use crate::{Measurement, Metric, Report, Scope, Side};

/// Type, size and error of every tensor; none where a run did not write any.
pub fn section(report: &Report) -> Option<Section> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut last: Option<&str> = None;
    let mut zeros = false;
    let errors = report.of(Scope::Tensor).any(|row| row.metric == Metric::RelativeError);
    for row in report.of(Scope::Tensor).filter(|row| report.is_about(Side::Model, row)) {
        if row.item.as_deref() != last {
            last = row.item.as_deref();
            rows.push(vec![
                row.item.clone().unwrap_or_default(),
                String::new(),
                String::new(),
                String::new(),
                String::new(),
                String::new(),
            ]);
        }
        let Some(cells) = rows.last_mut() else { continue };
        let shown = Measurement::shown(row);
        match row.metric {
            Metric::Bytes => {
                cells[1] = row.text.clone().unwrap_or_default();
                cells[3] = shown;
            }
            Metric::Weights => cells[2] = row.text.clone().unwrap_or(shown),
            Metric::RelativeError => cells[4] = shown,
            Metric::Sparsity | Metric::ZerosBefore => {
                zeros = true;
                cells[5] = shown;
            }
            Metric::ZerosKept => cells[5] = format!("{shown} of {}", cells[5]),
            _ => {}
        }
    }
    if rows.is_empty() {
        return None;
    }
    let mut columns = vec!["tensor", "type", "shape", "size"];
    if errors {
        columns.push("weight error");
    }
    if zeros {
        columns.push(Metric::Sparsity.label());
    }
    rows.iter_mut().for_each(|row| row.truncate(columns.len()));
    let caption = format!("All {} tensors", rows.len());
    let table = Table::new(&caption, &columns, rows).texts(&["type"]).folded_beyond(8);
    Some(Section { id: "tensors", heading: "Tensors", tables: vec![table], ..Section::default() })
}
