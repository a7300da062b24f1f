//! Which tokens a model reads, and which of its predictions are scored.
//!
//! The protocol is that of `perplexity()` in llama.cpp's `tools/perplexity/perplexity.cpp`: the text is tokenized once,
//! cut into windows of `n_ctx` tokens side by side, and every window starts from an empty cache. Position `i` predicts
//! token `i + 1`; only positions `n_ctx / 2 ..= n_ctx - 2` are scored, so that every prediction has half a window of
//! context. If the tokenizer adds a BOS token, the model reads BOS in place of each window's first token.

use std::ops::Range;

use thiserror::Error;

/// How a text is cut into windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocol {
    /// Tokens in a window.
    pub n_ctx: usize,
    /// The token each window begins with, `Some` if and only if the tokenizer adds BOS.
    pub bos: Option<u32>,
    /// Evaluates at most this many windows, all of them if `None`.
    pub max_windows: Option<usize>,
}

impl Protocol {
    /// llama-perplexity's default: windows of 512 tokens, the whole text.
    pub fn new(bos: Option<u32>) -> Self {
        Self { n_ctx: 512, bos, max_windows: None }
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
    /// Zero windows were asked for.
    #[error("the number of windows must be at least 1")]
    NoWindows,
    /// Fewer tokens than two windows, llama-perplexity's own minimum.
    #[error("the text has {found} tokens; a context of {n_ctx} needs at least {needed}")]
    TextTooShort {
        /// Tokens in the text.
        found: usize,
        /// Tokens needed, `2 * n_ctx`.
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

/// A tokenized text cut into windows.
#[derive(Debug, Clone)]
pub struct Windows<'a> {
    tokens: &'a [u32],
    n_ctx: usize,
    bos: Option<u32>,
    count: usize,
}

impl<'a> Windows<'a> {
    /// The shortest window in which a position is scored.
    pub const MIN_CONTEXT: usize = 3;

    /// Cuts `tokens`, the whole text with whatever special tokens its tokenizer adds, under `protocol`. What is left
    /// after the last whole window is not evaluated.
    ///
    /// # Errors
    /// A window under [`Self::MIN_CONTEXT`], zero windows, or fewer than `2 * n_ctx` tokens.
    pub fn new(tokens: &'a [u32], protocol: &Protocol) -> Result<Self, WindowError> {
        let Protocol { n_ctx, bos, max_windows } = *protocol;
        if n_ctx < Self::MIN_CONTEXT {
            return Err(WindowError::ContextTooSmall { n_ctx });
        }
        if max_windows == Some(0) {
            return Err(WindowError::NoWindows);
        }
        let needed = n_ctx.saturating_mul(2);
        if tokens.len() < needed {
            return Err(WindowError::TextTooShort { found: tokens.len(), needed, n_ctx });
        }
        let count = (tokens.len() / n_ctx).min(max_windows.unwrap_or(usize::MAX));
        Ok(Self { tokens, n_ctx, bos, count })
    }

    /// Checks that an embedding of `vocab_size` rows has a row for every token that is read or predicted.
    ///
    /// # Errors
    /// Names the first token that has none.
    pub fn check_vocabulary(&self, vocab_size: usize) -> Result<(), WindowError> {
        let read = &self.tokens[..self.count * self.n_ctx];
        match self.bos.iter().chain(read).find(|&&token| token as usize >= vocab_size) {
            Some(&token) => Err(WindowError::TokenOutOfRange { token, vocab_size }),
            None => Ok(()),
        }
    }

    /// Number of windows, at least 1.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Tokens in a window.
    pub fn n_ctx(&self) -> usize {
        self.n_ctx
    }

    /// The positions whose predictions are scored, the same in every window.
    pub fn scored(&self) -> Range<usize> {
        self.n_ctx / 2..self.n_ctx - 1
    }

    /// Appends what the model reads in window `index`, `n_ctx` tokens.
    ///
    /// # Panics
    /// If `index` is not under [`Self::count`].
    pub fn extend_inputs(&self, index: usize, inputs: &mut Vec<u32>) {
        assert!(index < self.count, "window {index} of {}", self.count);
        let start = inputs.len();
        inputs.extend_from_slice(&self.tokens[index * self.n_ctx..][..self.n_ctx]);
        if let Some(bos) = self.bos {
            inputs[start] = bos;
        }
    }

    /// The tokens that the scored positions of window `index` should predict, one per scored position.
    ///
    /// # Panics
    /// If `index` is not under [`Self::count`].
    pub fn targets(&self, index: usize) -> &'a [u32] {
        assert!(index < self.count, "window {index} of {}", self.count);
        let scored = self.scored();
        &self.tokens[index * self.n_ctx..][scored.start + 1..scored.end + 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn protocol(n_ctx: usize) -> Protocol {
        Protocol { n_ctx, bos: None, max_windows: None }
    }

    #[test]
    fn second_half_is_scored_and_the_last_position_predicts_nothing() {
        let tokens: Vec<u32> = (0..20).collect();
        let windows = Windows::new(&tokens, &protocol(8)).unwrap();
        assert_eq!(windows.count(), 2, "the last 4 tokens fill no window");
        assert_eq!(windows.scored(), 4..7);
        assert_eq!(windows.targets(0), [5, 6, 7]);
        assert_eq!(windows.targets(1), [13, 14, 15]);
    }

    #[test]
    fn odd_windows_score_as_llama_perplexity_counts_them() {
        let tokens: Vec<u32> = (0..14).collect();
        let windows = Windows::new(&tokens, &protocol(7)).unwrap();
        // n_ctx - 1 - n_ctx / 2 predictions, from position n_ctx / 2 on.
        assert_eq!(windows.targets(0), [4, 5, 6]);
    }

    #[test]
    fn bos_is_read_instead_of_the_first_token_but_never_predicted() {
        let tokens: Vec<u32> = (100..116).collect();
        let windows = Windows::new(&tokens, &Protocol { bos: Some(1), ..protocol(8) }).unwrap();
        let mut inputs = vec![];
        windows.extend_inputs(0, &mut inputs);
        windows.extend_inputs(1, &mut inputs);
        assert_eq!(inputs[..8], [1, 101, 102, 103, 104, 105, 106, 107]);
        assert_eq!(inputs[8..], [1, 109, 110, 111, 112, 113, 114, 115]);
        assert_eq!(windows.targets(1), [113, 114, 115]);
    }

    #[test]
    fn a_limit_keeps_the_first_windows() {
        let tokens: Vec<u32> = (0..100).collect();
        let limited = Protocol { max_windows: Some(3), ..protocol(10) };
        assert_eq!(Windows::new(&tokens, &limited).unwrap().count(), 3);
        let none = Protocol { max_windows: Some(0), ..protocol(10) };
        assert_eq!(Windows::new(&tokens, &none).unwrap_err(), WindowError::NoWindows);
    }

    #[test]
    fn short_texts_say_what_they_lack() {
        let error = Windows::new(&[0; 15], &protocol(8)).unwrap_err();
        assert_eq!(error, WindowError::TextTooShort { found: 15, needed: 16, n_ctx: 8 });
        assert_eq!(error.to_string(), "the text has 15 tokens; a context of 8 needs at least 16");
        assert_eq!(
            Windows::new(&[0; 9], &protocol(2)).unwrap_err(),
            WindowError::ContextTooSmall { n_ctx: 2 }
        );
        let huge = Windows::new(&[0; 9], &protocol(usize::MAX)).unwrap_err();
        assert!(matches!(huge, WindowError::TextTooShort { needed: usize::MAX, .. }));
    }

    #[test]
    fn tokens_outside_the_vocabulary_are_named() {
        let tokens = [0, 1, 2, 3, 4, 5, 6, 70];
        let windows = Windows::new(&tokens, &protocol(4)).unwrap();
        assert_eq!(windows.check_vocabulary(71), Ok(()));
        assert_eq!(
            windows.check_vocabulary(70),
            Err(WindowError::TokenOutOfRange { token: 70, vocab_size: 70 })
        );
        let with_bos = Windows::new(&tokens, &Protocol { bos: Some(99), ..protocol(4) }).unwrap();
        assert_eq!(
            with_bos.check_vocabulary(71),
            Err(WindowError::TokenOutOfRange { token: 99, vocab_size: 71 })
        );
    }
}
