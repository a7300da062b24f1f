//! What an evaluation gives.

use std::ops::Range;

use serde::Serialize;

use crate::breakdown::{self, DocumentFigures, PositionFigures};
use crate::evaluate::Warning;
use crate::kept::KeptBase;
use crate::scores::Scores;
use crate::spans::TextSpans;
use crate::summary::Summary;
use crate::windows::{Protocol, Window, Windowing};

/// An evaluation, finished or stopped.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// Tokens in a window.
    pub n_ctx: usize,
    /// Tokens from one window's start to the next.
    pub stride: usize,
    /// Which tokens of a window are scored.
    pub windowing: Windowing,
    /// The token that stands in place of each window's first, or, strided, in front of the text; `None` (null) if the tokenizer
    /// adds no BOS.
    pub bos: Option<u32>,
    /// Windows evaluated.
    pub windows: usize,
    /// Windows that were to be evaluated.
    pub windows_planned: usize,
    /// Whether all of them were: an evaluation that was stopped has figures of the windows before.
    pub complete: bool,
    /// Things to know about the figures.
    pub warnings: Vec<Warning>,
    /// What stood in the base model's place, where that was its predictions from before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_logits: Option<KeptBase>,
    /// The figures.
    #[serde(flatten)]
    pub summary: Summary,
    /// The figures by how much context a prediction had.
    pub positions: Vec<PositionFigures>,
    /// The figures by document, where it is known what the text is made of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub documents: Vec<DocumentFigures>,
    /// The rows behind the figures.
    #[serde(skip)]
    pub scores: Scores,
    /// The windows evaluated; their scored positions, one after the other, are the rows.
    #[serde(skip)]
    pub read: Vec<Window>,
}

impl Evaluation {
    /// Of the first `done` of `windows`, which `protocol` made.
    pub(crate) fn new(
        protocol: &Protocol,
        windows: &[Window],
        done: usize,
        warnings: Vec<Warning>,
        scores: Scores,
    ) -> Self {
        let read = windows[..done].to_vec();
        Self {
            n_ctx: protocol.n_ctx,
            stride: protocol.stride.unwrap_or(protocol.n_ctx),
            windowing: protocol.windowing(),
            bos: protocol.bos,
            windows: done,
            windows_planned: windows.len(),
            complete: done == windows.len(),
            warnings,
            base_logits: None,
            summary: Summary::of(&scores),
            positions: breakdown::by_position(&read, &scores),
            documents: Vec::new(),
            scores,
            read,
        }
    }

    /// Adds what depends on the text that the tokens stand for: bits per byte, and the figures of each document.
    #[must_use]
    pub fn with_text(mut self, text: &TextSpans) -> Self {
        let bytes = self.read.iter().map(|window| text.bytes(window.targets())).sum();
        self.summary.set_bytes(bytes);
        self.documents = breakdown::by_document(&self.read, &self.scores, text);
        self
    }

    /// The rows of every window evaluated.
    pub fn window_rows(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        rows(&self.read)
    }

    /// What a model read in window `index` of a text of `tokens`.
    ///
    /// # Panics
    /// If the window was not evaluated, or `tokens` is shorter than the text.
    pub fn inputs(&self, index: usize, tokens: &[u32]) -> Vec<u32> {
        let mut inputs = Vec::new();
        self.read[index].extend_inputs(tokens, self.windowing.replaced_by(self.bos), &mut inputs);
        inputs
    }

    /// Tokens that each model has read.
    pub fn tokens_read(&self) -> usize {
        self.read.iter().map(|window| window.len).sum()
    }
}

/// The rows of every window.
pub(crate) fn rows(windows: &[Window]) -> impl Iterator<Item = Range<usize>> + '_ {
    windows.iter().scan(0, |first, window| {
        let rows = *first..*first + window.scored.len();
        *first = rows.end;
        Some(rows)
    })
}
