//! Losses document by document.

use super::{Section, Table};
use crate::{Metric, Report, Scope, Side};

/// Figures of every document; none where they were not told apart.
pub fn section(report: &Report) -> Option<Section> {
    let mut documents: Vec<&str> = Vec::new();
    for row in report.of(Scope::Document) {
        documents.extend(row.item.as_deref().filter(|item| !documents.contains(item)));
    }
    if documents.is_empty() {
        return None;
    }
    let rows = documents.iter().map(|document| {
        let shown = |side, metric: Metric| {
            let value = report.value(side, Scope::Document, document, metric);
            value.map_or_else(String::new, |value| metric.show(value))
        };
        vec![
            (*document).to_owned(),
            shown(Side::Model, Metric::Tokens),
            shown(Side::Model, Metric::Perplexity),
            shown(Side::Base, Metric::Perplexity),
            shown(Side::Model, Metric::BitsPerByte),
            shown(Side::Model, Metric::KlDivergence),
        ]
    });
    let columns = ["document", "tokens scored", "perplexity", "original", "bits per byte", "KL divergence"];
    let table = Table::new("Figures of every document", &columns, rows.collect())
        .without_empty_columns()
        .folded_beyond(12);
    Some(Section { id: "documents", heading: "By document", tables: vec![table], ..Section::default() })
}
