//! The figures of parts of a text: by how much context a prediction had, and by document.
//!
//! Standard errors are those of independent tokens, as in the [`Summary`](crate::Summary).

use std::ops::Range;

use serde::Serialize;

use crate::evaluation::rows;
use crate::scores::Scores;
use crate::spans::TextSpans;
use crate::statistics::Estimate;
use crate::summary::bits_per_byte;
use crate::windows::Window;

/// Parts that the positions of a window are divided into.
const BINS: usize = 8;

/// Figures over some of the scored tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figures {
    /// Scored tokens.
    pub tokens: usize,
    /// -log q(token), nats.
    pub nll: Estimate,
    /// -log p(token) of the base model, nats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_nll: Option<Estimate>,
    /// KL divergence from the base model, nats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl_divergence: Option<Estimate>,
    /// Share of tokens at which both models have the same most probable token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top1_agreement: Option<f64>,
}

/// Figures of the predictions that had about the same length of context.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PositionFigures {
    /// Tokens of context, the least.
    pub context_from: usize,
    /// Tokens of context, the most.
    pub context_to: usize,
    /// The figures.
    #[serde(flatten)]
    pub figures: Figures,
}

/// Figures of one document.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DocumentFigures {
    /// Which document of the text, from 0.
    pub document: usize,
    /// Bytes that its scored tokens stand for.
    pub bytes: usize,
    /// As in the [`Summary`](crate::Summary); `None` (null) without bytes.
    pub bits_per_byte: Option<f64>,
    /// The figures.
    #[serde(flatten)]
    pub figures: Figures,
}

impl Figures {
    /// Over the rows named, at least one.
    fn of(scores: &Scores, rows: &[usize]) -> Self {
        let drift = scores.drift.as_deref();
        let estimate = |of: &dyn Fn(usize) -> f64| Estimate::of(rows.iter().map(|&row| of(row)));
        let same = |drift: &[crate::Drift]| rows.iter().filter(|&&row| drift[row].same_top).count();
        Self {
            tokens: rows.len(),
            nll: estimate(&|row| scores.nll[row]),
            base_nll: drift.map(|drift| estimate(&|row| drift[row].base_nll)),
            kl_divergence: drift.map(|drift| estimate(&|row| drift[row].kl)),
            top1_agreement: drift.map(|drift| same(drift) as f64 / rows.len() as f64),
        }
    }
}

/// Figures by length of context: the positions that any window scores, in equal parts. Those without tokens are left out.
pub(crate) fn by_position(windows: &[Window], scores: &Scores) -> Vec<PositionFigures> {
    let first = windows.iter().map(|window| window.scored.start).min().unwrap_or(0);
    let end = windows.iter().map(|window| window.scored.end).max().unwrap_or(0);
    let positions = end.saturating_sub(first);
    let bins = BINS.min(positions);
    let mut members = vec![Vec::new(); bins];
    for (window, rows) in windows.iter().zip(rows(windows)) {
        for (position, row) in window.scored.clone().zip(rows) {
            members[(position - first) * bins / positions].push(row);
        }
    }
    // the positions that the division above puts into a part; position i has i + 1 tokens of context
    let range = |bin: usize| -> Range<usize> {
        let start = |bin: usize| first + (bin * positions).div_ceil(bins);
        start(bin)..start(bin + 1)
    };
    let of = |(bin, rows): (usize, &Vec<usize>)| {
        let Range { start, end } = range(bin);
        PositionFigures { context_from: start + 1, context_to: end, figures: Figures::of(scores, rows) }
    };
    members.iter().enumerate().filter(|(_, rows)| !rows.is_empty()).map(of).collect()
}

/// Figures of every document that has scored tokens.
pub(crate) fn by_document(windows: &[Window], scores: &Scores, text: &TextSpans) -> Vec<DocumentFigures> {
    let mut members = vec![(0, Vec::new()); text.documents()];
    for (window, rows) in windows.iter().zip(rows(windows)) {
        for (token, row) in window.targets().zip(rows) {
            if let Some(document) = text.document_of(token) {
                members[document].0 += text.bytes(token..token + 1);
                members[document].1.push(row);
            }
        }
    }
    let of = |(document, (bytes, rows)): (usize, &(usize, Vec<usize>))| {
        let figures = Figures::of(scores, rows);
        let nats = figures.nll.mean * figures.tokens as f64;
        let (bytes, bits_per_byte) = (*bytes, bits_per_byte(nats, *bytes));
        DocumentFigures { document, bytes, bits_per_byte, figures }
    };
    members.iter().enumerate().filter(|(_, (_, rows))| !rows.is_empty()).map(of).collect()
}

#[cfg(test)]
#[path = "breakdown_tests.rs"]
mod tests;
