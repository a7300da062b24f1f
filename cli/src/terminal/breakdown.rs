//! Tables of an evaluation's parts.

use comfy_table::Table;
use slmc_pipeline::jobs::evaluate::{Estimate, Evaluation, Figures};

use super::format::percent;
use super::table::table;

/// By how much context a prediction had.
pub fn positions(evaluation: &Evaluation) -> Table {
    let drift = evaluation.summary.drift.is_some();
    let rows = evaluation.positions.iter().map(|part| {
        let mut row = vec![format!("{} … {}", part.context_from, part.context_to)];
        row.extend(cells(&part.figures));
        row
    });
    table(header("context", &[], drift), rows)
}

/// By document.
pub fn documents(evaluation: &Evaluation) -> Table {
    let drift = evaluation.summary.drift.is_some();
    let rows = evaluation.documents.iter().map(|document| {
        let bits = document.bits_per_byte.map_or_else(String::new, |bits| format!("{bits:.4}"));
        let mut row = vec![document.document.to_string(), document.bytes.to_string(), bits];
        row.extend(cells(&document.figures));
        row
    });
    table(header("document", &["bytes", "bits per byte"], drift), rows)
}

fn header(first: &'static str, more: &[&'static str], drift: bool) -> Vec<&'static str> {
    let mut header = vec![first];
    header.extend(more);
    header.extend(["tokens", "nll"]);
    if drift {
        header.extend(["base nll", "KL divergence", "same most likely"]);
    }
    header
}

fn cells(figures: &Figures) -> Vec<String> {
    let shown =
        |Estimate { mean, stderr }: Estimate, digits: usize| format!("{mean:.digits$} ± {stderr:.digits$}");
    let mut cells = vec![figures.tokens.to_string(), shown(figures.nll, 4)];
    cells.extend(figures.base_nll.map(|nll| shown(nll, 4)));
    cells.extend(figures.kl_divergence.map(|kl| shown(kl, 6)));
    cells.extend(figures.top1_agreement.map(percent));
    cells
}
