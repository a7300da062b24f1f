//! The file that `llama-perplexity --kl-divergence-base` writes: a base model's predictions at the scored positions of windows side
//! by side.
//!
//! The format is llama.cpp's (`perplexity()` and the `log_softmax` of 16 bits in `tools/perplexity/perplexity.cpp`), little-endian:
//! eight bytes that name it, u32 n_ctx, i32 n_vocab and n_chunk, `[n_chunk, n_ctx]` i32 token ids as the tokenizer gives them, then a row
//! for each of the `n_ctx − 1 − n_ctx/2` scored positions of every window. A row is an f32 scale s, an f32 least value l and `[n_vocab]`
//! u16 codes c, padded to an even number: log p = s·c + l. The least value is at most 16 below the largest; what is less likely has
//! that.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;
use thiserror::Error;

use super::{KeptBase, PredictionFormat};
use crate::windows::Windows;

/// Bytes of what stands before the token ids.
const HEADER: usize = 20;

/// By how much the logarithm of a probability may exceed 0: more than its rounding does.
const ABOVE_ZERO: f32 = 1e-3;

/// A file of predictions that is not what it should be.
#[derive(Debug, Error)]
#[error("`{}` {reason}", path.display())]
pub struct LlamaLogitsError {
    path: PathBuf,
    reason: String,
}

/// llama-perplexity's file of a base model's predictions, opened.
#[derive(Debug)]
pub struct LlamaLogits {
    path: PathBuf,
    file: Mutex<File>,
    n_ctx: usize,
    vocab_size: usize,
    tokens: Vec<u32>,
}

impl LlamaLogits {
    /// What such a file begins with.
    pub const MAGIC: &[u8; 8] = b"_logits_";

    /// Opens a file that begins with [`Self::MAGIC`], and checks that it is whole.
    ///
    /// # Errors
    /// It cannot be read, is something else, has sizes that cannot be, or another length than they say.
    pub fn open(path: &Path) -> Result<Self, LlamaLogitsError> {
        let failed = |reason: String| LlamaLogitsError { path: path.to_owned(), reason };
        let io = |error: std::io::Error| failed(format!("cannot be read: {error}"));
        let mut file = File::open(path).map_err(io)?;
        let found = file.metadata().map_err(io)?.len();
        let mut header = [0; HEADER];
        if found < HEADER as u64 {
            return Err(failed(format!("is damaged: it ends after {found} bytes, within its header")));
        }
        file.read_exact(&mut header).map_err(io)?;
        let (magic, numbers) = header.split_at(Self::MAGIC.len());
        if magic != Self::MAGIC {
            return Err(failed("is no file of llama-perplexity --kl-divergence-base".into()));
        }
        let [n_ctx, vocab_size, windows] = [0, 4, 8].map(|at| {
            let number = i32::from_le_bytes(numbers[at..at + 4].try_into().expect("four bytes"));
            usize::try_from(number).unwrap_or(0)
        });
        if n_ctx < Windows::MIN_CONTEXT || vocab_size == 0 || windows == 0 {
            return Err(failed(format!(
                "is damaged: its header tells of {windows} windows of {n_ctx} tokens and a vocabulary of {vocab_size}"
            )));
        }
        let tokens = windows as u128 * n_ctx as u128;
        let rows = windows as u128 * scored(n_ctx) as u128;
        let expected = HEADER as u128 + 4 * tokens + rows * u128::from(row_bytes(vocab_size));
        if u128::from(found) != expected {
            let why =
                if u128::from(found) < expected { ": llama-perplexity did not get to its end" } else { "" };
            return Err(failed(format!(
                "has {found} bytes, but the {windows} windows that its header tells of take {expected}{why}; write it again"
            )));
        }
        let mut bytes = vec![0; 4 * tokens as usize];
        file.read_exact(&mut bytes).map_err(io)?;
        let tokens = bytes.as_chunks::<4>().0.iter().map(|id| u32::from_le_bytes(*id)).collect();
        Ok(Self { path: path.to_owned(), file: Mutex::new(file), n_ctx, vocab_size, tokens })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tokens of a window.
    pub fn n_ctx(&self) -> usize {
        self.n_ctx
    }

    /// Entries of the vocabulary.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Windows, the text's first.
    pub fn windows(&self) -> usize {
        self.tokens.len() / self.n_ctx
    }

    /// The token ids of all windows, one after another.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// What it is of.
    pub fn about(&self) -> KeptBase {
        let vocab_size = self.vocab_size;
        let format = PredictionFormat::LlamaPerplexity;
        KeptBase { format, top_k: vocab_size, vocab_size, kl_is_lower_bound: false }
    }

    /// The logarithms of the probabilities of some entries of the vocabulary at the scored positions of some windows, `[windows ·
    /// positions, entries]`.
    ///
    /// # Errors
    /// The file cannot be read, or holds what is no prediction.
    ///
    /// # Panics
    /// If there are not so many windows or entries, or no entry is asked for.
    pub fn read(&self, windows: Range<usize>, entries: Range<usize>) -> Result<Vec<f32>, LlamaLogitsError> {
        assert!(windows.end <= self.windows() && entries.end <= self.vocab_size, "no such predictions");
        let failed = |reason: String| LlamaLogitsError { path: self.path.clone(), reason };
        assert!(!entries.is_empty(), "an empty slice of the vocabulary");
        let (positions, width) = (scored(self.n_ctx), entries.len());
        let rows = windows.start * positions..windows.end * positions;
        let mut codes = vec![0; 2 * width * rows.len()];
        let mut scales = vec![[0; 8]; rows.len()];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        for (row, (scale, codes)) in
            rows.clone().zip(scales.iter_mut().zip(codes.chunks_exact_mut(2 * width)))
        {
            let begin = (HEADER + 4 * self.tokens.len()) as u64 + row as u64 * row_bytes(self.vocab_size);
            let ahead = 2 * entries.start as i64;
            file.seek(SeekFrom::Start(begin))
                .and_then(|_| file.read_exact(scale))
                .and_then(|()| file.seek_relative(ahead))
                .and_then(|()| file.read_exact(codes))
                .map_err(|error| failed(format!("cannot be read: {error}")))?;
        }
        drop(file);

        let mut log_probs = vec![0.0; width * rows.len()];
        let wrong = (log_probs.par_chunks_exact_mut(width), codes.par_chunks_exact(2 * width), &scales)
            .into_par_iter()
            .map(|(log_probs, codes, scale)| decode(*scale, codes, log_probs))
            .position_first(|decoded| decoded.is_none());
        match wrong {
            Some(row) => {
                let (window, position) = ((rows.start + row) / positions, (rows.start + row) % positions);
                let position = self.n_ctx / 2 + position;
                Err(failed(format!("is damaged: window {window}, position {position} has no prediction")))
            }
            None => Ok(log_probs),
        }
    }
}

/// Scored positions of a window.
fn scored(n_ctx: usize) -> usize {
    n_ctx - 1 - n_ctx / 2
}

/// Bytes of a position's row.
fn row_bytes(vocab_size: usize) -> u64 {
    8 + 2 * vocab_size.next_multiple_of(2) as u64
}

/// Decodes a part of a row; `None` for a scale and a least value that no probabilities have.
fn decode(scale: [u8; 8], codes: &[u8], log_probs: &mut [f32]) -> Option<()> {
    let ([scale, least], _) = scale.as_chunks::<4>() else { return None };
    let [scale, least] = [*scale, *least].map(f32::from_le_bytes);
    let most = scale * f32::from(u16::MAX) + least;
    if !(scale >= 0.0 && least.is_finite() && most <= ABOVE_ZERO) {
        return None;
    }
    for (log_p, code) in log_probs.iter_mut().zip(codes.as_chunks::<2>().0) {
        *log_p = scale * f32::from(u16::from_le_bytes(*code)) + least;
    }
    Some(())
}
