//! Which tokens a model reads, and which of its predictions are scored.
//!
//! Side by side (the default) follows `perplexity()` in llama.cpp's `tools/perplexity/perplexity.cpp`: the text is tokenized
//! once, cut into windows of `n_ctx` tokens side by side, and every window starts from an empty cache. Position `i` predicts
//! token `i + 1`; only positions `n_ctx / 2 ..= n_ctx - 2` are scored, so that every prediction has half a window of
//! context. If the tokenizer adds a BOS token, the model reads BOS in place of each window's first token.
//!
//! Strided follows the guide "Perplexity of fixed-length models" of Hugging Face's transformers: a window of `n_ctx` tokens
//! starts every `stride` tokens, and of its tokens those are scored that no window before has scored. The first window scores
//! from its second token on, as nothing predicts the first; the last ends with the text and may be shorter. BOS is the text's
//! first token if the tokenizer adds it, and no window's but the first's. With a stride of `n_ctx` a window's first token has
//! no context and is not scored, as in the guide. Every scored token counts once here; the guide's listing weighs each window by
//! one token less than it has scored (its labels are shifted by one, which costs the first window a label but not the later
//! ones), which changes the figure by 0.5 % on 260 tokens in windows of 48, and by nothing that shows on long texts.

use std::ops::Range;

use serde::Serialize;
use thiserror::Error;

/// How a text is cut into windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocol {
    /// Tokens in a window.
    pub n_ctx: usize,
    /// Tokens from one window's start to the next, of strided windows; `None` for windows side by side.
    pub stride: Option<usize>,
    /// The beginning-of-sequence token, `Some` if and only if the tokenizer adds it: what each of the windows side by side
    /// begins with. Strided windows read the text as it is, which begins with it.
    pub bos: Option<u32>,
    /// Evaluates at most this many windows, all of them if `None`.
    pub max_windows: Option<usize>,
}

/// Which of the two ways of cutting a text it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Windowing {
    /// The second half of each window is scored, as llama-perplexity does.
    SideBySide,
    /// The tokens that no window before has scored are, as Hugging Face's guide does.
    Strided,
}

impl Windowing {
    /// What is read in place of each window's first token, with a tokenizer that adds `bos`.
    pub(crate) fn replaced_by(self, bos: Option<u32>) -> Option<u32> {
        match self {
            Self::SideBySide => bos,
            Self::Strided => None,
        }
    }
}

impl Protocol {
    /// llama-perplexity's default: windows of 512 tokens, the whole text.
    pub fn new(bos: Option<u32>) -> Self {
        Self { n_ctx: 512, stride: None, bos, max_windows: None }
    }

    /// Which way of cutting a text it is.
    pub fn windowing(&self) -> Windowing {
        if self.stride.is_some() { Windowing::Strided } else { Windowing::SideBySide }
    }
}

/// A text that cannot be evaluated under a [`Protocol`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WindowError {
    /// A window so short that no position of it is scored.
    #[error("a context of {n_ctx} tokens scores nothing; it needs at least {}", Windows::MIN_CONTEXT)]
    ContextTooSmall {
        /// The window asked for.
        n_ctx: usize,
    },
    /// A stride that stands still or leaves tokens out.
    #[error("a stride of {stride} does not suit windows of {n_ctx} tokens; it can be 1 to {n_ctx}")]
    Stride {
        /// The stride asked for.
        stride: usize,
        /// The window asked for.
        n_ctx: usize,
    },
    /// Zero windows were asked for.
    #[error("the number of windows must be at least 1")]
    NoWindows,
    /// Fewer tokens than two windows side by side, llama-perplexity's own minimum; or, strided, than two.
    #[error("the text has {found} tokens; a context of {n_ctx} needs at least {needed}")]
    TextTooShort {
        /// Tokens in the text.
        found: usize,
        /// Tokens needed, `2 * n_ctx`; 2 of strided windows.
        needed: usize,
        /// The window asked for.
        n_ctx: usize,
    },
    /// A token (or the BOS token) outside the model's vocabulary.
    #[error("token {token} is outside the vocabulary of {vocab_size}")]
    TokenOutOfRange {
        /// The token.
        token: u32,
        /// Rows of the model's embedding.
        vocab_size: usize,
    },
}

/// A stretch of the text that a model reads from an empty cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Index in the text of its first token.
    pub start: usize,
    /// Tokens in it.
    pub len: usize,
    /// The positions whose predictions are scored: position `i` predicts token `start + i + 1` of the text.
    pub scored: Range<usize>,
}

impl Window {
    /// Indices in the text of the tokens that are scored.
    pub fn targets(&self) -> Range<usize> {
        self.start + self.scored.start + 1..self.start + self.scored.end + 1
    }

    /// Appends what a model reads in it: of the text of `tokens`, with `bos`, if any, in place of its first token.
    pub(crate) fn extend_inputs(&self, tokens: &[u32], bos: Option<u32>, inputs: &mut Vec<u32>) {
        let first = inputs.len();
        inputs.extend_from_slice(&tokens[self.start..][..self.len]);
        if let Some(bos) = bos {
            inputs[first] = bos;
        }
    }

    /// Whether a model can read both in one batch and be scored at the same positions.
    pub(crate) fn has_shape_of(&self, other: &Self) -> bool {
        (self.len, &self.scored) == (other.len, &other.scored)
    }
}

/// A tokenized text cut into windows.
#[derive(Debug, Clone)]
pub struct Windows<'a> {
    tokens: &'a [u32],
    /// Read instead of each window's first token.
    bos: Option<u32>,
    windows: Vec<Window>,
}

impl<'a> Windows<'a> {
    /// The shortest window in which a position is scored, side by side.
    pub const MIN_CONTEXT: usize = 3;

    /// Cuts `tokens`, the whole text with whatever special tokens its tokenizer adds, under `protocol`. What is left
    /// after the last whole window side by side is not evaluated.
    ///
    /// # Errors
    /// A window under [`Self::MIN_CONTEXT`], a stride of 0 or beyond a window, zero windows; side by side, fewer than
    /// `2 * n_ctx` tokens; strided, fewer than 2.
    pub fn new(tokens: &'a [u32], protocol: &Protocol) -> Result<Self, WindowError> {
        let Protocol { n_ctx, stride, bos, max_windows } = *protocol;
        if n_ctx < Self::MIN_CONTEXT {
            return Err(WindowError::ContextTooSmall { n_ctx });
        }
        if let Some(stride) = stride.filter(|stride| !(1..=n_ctx).contains(stride)) {
            return Err(WindowError::Stride { stride, n_ctx });
        }
        if max_windows == Some(0) {
            return Err(WindowError::NoWindows);
        }
        let (found, needed) = (tokens.len(), if stride.is_some() { 2 } else { n_ctx.saturating_mul(2) });
        if found < needed {
            return Err(WindowError::TextTooShort { found, needed, n_ctx });
        }
        let limit = max_windows.unwrap_or(usize::MAX);
        let windows = match stride {
            None => side_by_side(found, n_ctx).take(limit).collect(),
            Some(stride) => strided(found, n_ctx, stride).take(limit).collect(),
        };
        Ok(Self { tokens, bos: protocol.windowing().replaced_by(bos), windows })
    }

    /// Checks that an embedding of `vocab_size` rows has a row for every token that is read or predicted.
    ///
    /// # Errors
    /// Names the first token that has none.
    pub fn check_vocabulary(&self, vocab_size: usize) -> Result<(), WindowError> {
        let read = self.windows.last().map_or(0, |window| window.start + window.len);
        match self.bos.iter().chain(&self.tokens[..read]).find(|&&token| token as usize >= vocab_size) {
            Some(&token) => Err(WindowError::TokenOutOfRange { token, vocab_size }),
            None => Ok(()),
        }
    }

    /// Number of windows, at least 1.
    pub fn count(&self) -> usize {
        self.windows.len()
    }

    /// The windows, in the order of the text.
    pub fn all(&self) -> &[Window] {
        &self.windows
    }

    /// Appends what the model reads in window `index`.
    ///
    /// # Panics
    /// If `index` is not under [`Self::count`].
    pub fn extend_inputs(&self, index: usize, inputs: &mut Vec<u32>) {
        self.windows[index].extend_inputs(self.tokens, self.bos, inputs);
    }

    /// The tokens that the scored positions of window `index` should predict, one per scored position.
    ///
    /// # Panics
    /// If `index` is not under [`Self::count`].
    pub fn targets(&self, index: usize) -> &'a [u32] {
        &self.tokens[self.windows[index].targets()]
    }
}

/// llama-perplexity's windows over a text of `tokens` tokens.
fn side_by_side(tokens: usize, n_ctx: usize) -> impl Iterator<Item = Window> {
    let window = move |index| Window { start: index * n_ctx, len: n_ctx, scored: n_ctx / 2..n_ctx - 1 };
    (0..tokens / n_ctx).map(window)
}

/// The windows of Hugging Face's guide over a text of `tokens` tokens, those that score something.
fn strided(tokens: usize, n_ctx: usize, stride: usize) -> impl Iterator<Item = Window> {
    let end_of = move |start: usize| start.saturating_add(n_ctx).min(tokens);
    (0..tokens)
        .step_by(stride)
        // every window ends behind the one before, until one reaches the end of the text
        .take_while(move |&start| start == 0 || end_of(start - stride) < tokens)
        .map(move |start| {
            let end = end_of(start);
            let scored_before = if start == 0 { 0 } else { end_of(start - stride) };
            let first_target = scored_before.max(start + 1);
            Window { start, len: end - start, scored: first_target - start - 1..end - start - 1 }
        })
        .filter(|window| !window.scored.is_empty())
}

#[cfg(test)]
#[path = "windows_tests.rs"]
mod tests;
