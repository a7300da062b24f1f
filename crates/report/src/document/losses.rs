//! Perplexity and the KL divergence from the base.

use super::{Key, Section, Table};
use crate::charts::{Bin, Colour, Description, Interval, histogram, intervals};
use crate::{Metric, Report, ReportError, Scope, Side, report};

/// Perplexity with its interval, and how the divergence is distributed over tokens.
pub fn section(report: &Report) -> Result<Option<Section>, ReportError> {
    let Some(perplexity) = report.own(Metric::Perplexity) else { return Ok(None) };
    let mut charts = Vec::new();
    let base = report.base_own(Metric::Perplexity);
    let rows: Vec<Interval> = base
        .map(|row| (row, Colour::Base))
        .into_iter()
        .chain([(perplexity, Colour::Model)])
        .filter_map(|(row, colour)| {
            let label = report::name(&row.model).to_owned();
            Some(Interval { label, colour, value: row.value?, bounds: row.bounds(), shown: row.shown() })
        })
        .collect();
    let description = Description {
        id: "chart-perplexity",
        caption: "Perplexity with 95 % intervals",
        text: "The interval of each is for another text of the same kind. Both models read the same text, so their \
               difference is far more certain than either.",
    };
    charts.push(intervals(&description, &rows, |value, decimals| format!("{value:.decimals$}"))?);

    let kl = |item: &str| report.value(Side::Model, Scope::Distribution, item, Metric::KlDivergence);
    let bins: Vec<Bin> = report
        .of(Scope::Histogram)
        .filter(|row| row.metric == Metric::Tokens && report.is_about(Side::Model, row))
        .map(|row| Bin { low: row.low, high: row.high, count: row.value.unwrap_or(0.0) })
        .collect();
    if !bins.is_empty() {
        let mean = report.own(Metric::KlDivergence).and_then(|row| row.value);
        let marks: Vec<_> = [("median", kl("median")), ("mean", mean), ("99 %", kl("p99"))]
            .into_iter()
            .filter_map(|(label, value)| Some((label, value?)))
            .collect();
        let description = Description {
            id: "chart-kl",
            caption: "KL divergence of single tokens",
            text: "The share of tokens in each quarter of a decade, over a logarithmic axis.",
        };
        charts.push(histogram(&description, &bins, &marks)?);
    }

    let mut tables = vec![figures(report)];
    let items = report.items(Scope::Distribution, Metric::KlDivergence);
    if !items.is_empty() {
        let rows = items.iter().filter_map(|item| Some(vec![percentile(item), format!("{:.6}", kl(item)?)]));
        tables.push(Table::new(
            "KL divergence of single tokens, nats",
            &["percentile", "KL divergence"],
            rows.collect(),
        ));
    }
    let mut legend = vec![Key { variable: "model".into(), label: report::name(report.model()).to_owned() }];
    if let Some(base) = report.base().filter(|_| base.is_some()) {
        legend.insert(0, Key { variable: "base".into(), label: report::name(base).to_owned() });
    }
    Ok(Some(Section {
        id: "losses",
        heading: if base.is_some() { "What was lost" } else { "Perplexity" },
        lead: match base {
            Some(_) => "The KL divergence of a token is how far the model's prediction of it is from the original's, over the \
                        whole vocabulary; 0 is the same prediction."
                .into(),
            None => String::new(),
        },
        legend,
        charts,
        tables,
        ..Section::default()
    }))
}

/// Every figure of the whole model that says how good it is.
fn figures(report: &Report) -> Table {
    let mut rows = Vec::new();
    for row in report.of(Scope::Summary).filter(|row| report.is_about(Side::Model, row)) {
        let told = matches!(
            row.metric,
            Metric::Perplexity
                | Metric::PerplexityIncrease
                | Metric::BitsPerByte
                | Metric::KlDivergence
                | Metric::PredictedKlDivergence
                | Metric::Top1Agreement
                | Metric::Top5Agreement
                | Metric::DeltaPRms
                | Metric::Tokens
        );
        if told {
            let before = report.base_own(row.metric).map_or_else(String::new, |row| row.shown());
            rows.push(vec![row.metric.label().to_owned(), row.shown(), before]);
        }
    }
    Table::new("Figures, ± one standard error", &["", "measured", "original"], rows)
}

/// `p99` as `99 %`.
fn percentile(item: &str) -> String {
    match item.strip_prefix('p') {
        Some(digits) => format!("{} %", digits.replace('_', ".")),
        None => item.to_owned(),
    }
}
