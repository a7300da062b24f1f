//! Windows of calibration tokens.

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::sampling::SplitMix64;
use crate::{CalibrationError, Document, TextKind, Tokenizer};

/// How documents become windows of equal length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Documents, shuffled, one after another in one stream, which is cut into windows. Between two documents
    /// stands the BOS token, if the model has one, as each document would begin with it.
    Packed,
    /// One window a document: its beginning. Documents shorter than a window are left out.
    Truncated,
}

impl Packing {
    /// The option's spelling.
    pub const fn name(self) -> &'static str {
        match self {
            Packing::Packed => "packed",
            Packing::Truncated => "truncated",
        }
    }
}

/// Which windows are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchOptions {
    /// Windows wanted.
    pub samples: usize,
    /// Tokens of a window, BOS included.
    pub seq_len: usize,
    /// Decides the order of documents and the choice of windows.
    pub seed: u64,
    /// How documents become windows.
    pub packing: Packing,
    /// Token put first in every window; `None` for models that expect none. Usually [`Tokenizer::bos`].
    pub bos: Option<u32>,
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self { samples: 128, seq_len: 512, seed: 0, packing: Packing::Packed, bos: None }
    }
}

/// Windows of token ids, all of the same length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenBatches {
    /// The windows, each of `seq_len` ids, in the order of the text they are from.
    pub tokens: Vec<Vec<u32>>,
    /// Tokens of a window.
    pub seq_len: usize,
    /// The token every window begins with, if any.
    pub bos: Option<u32>,
    /// SHA-256, in hexadecimal, of the options and all token ids: says in an output's metadata what it was
    /// calibrated on. What is hashed: see [`TokenBatches::hash_of`].
    pub hash: String,
    /// Documents the text has.
    pub documents: usize,
    /// Documents too short for a window ([`Packing::Truncated`] only).
    pub short_documents: usize,
    /// Tokens the whole text has, chosen or not.
    pub text_tokens: usize,
    /// Windows the text would have given.
    pub available: usize,
    /// Windows that were asked for; more than `tokens.len()` if the text has too few.
    pub requested: usize,
}

impl TokenBatches {
    /// Tokens in all windows together.
    pub fn total_tokens(&self) -> usize {
        self.tokens.len() * self.seq_len
    }

    /// How many windows fewer there are than were asked for.
    pub fn missing(&self) -> usize {
        self.requested - self.tokens.len()
    }

    /// The hash of some windows: SHA-256 over the line `slmc calibration 1`, the packing's name and a newline,
    /// then as little-endian u64: `samples`, `seq_len`, `seed`, BOS (2⁶⁴ - 1 for none), the number of windows;
    /// then every token id as little-endian u32.
    pub fn hash_of(tokens: &[Vec<u32>], options: &BatchOptions) -> String {
        let mut hash = Sha256::new();
        hash.update(format!("slmc calibration 1\n{}\n", options.packing.name()));
        let bos = options.bos.map_or(u64::MAX, u64::from);
        let numbers =
            [options.samples as u64, options.seq_len as u64, options.seed, bos, tokens.len() as u64];
        numbers.iter().for_each(|n| hash.update(n.to_le_bytes()));
        for id in tokens.iter().flatten() {
            hash.update(id.to_le_bytes());
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Documents to token batches.
pub struct Calibration;

impl Calibration {
    /// Tokenizes the documents and chooses windows.
    ///
    /// Every subset of the windows a text has is equally likely; the same text, tokenizer and options give the
    /// same windows. Fewer windows than asked for are no error: [`TokenBatches::missing`] tells.
    ///
    /// # Errors
    /// No text; not enough of it for one window; options that ask for nothing; a tokenizer that fails.
    pub fn build(
        documents: &[Document],
        tokenizer: &Tokenizer,
        options: &BatchOptions,
    ) -> Result<TokenBatches, CalibrationError> {
        let least = 1 + usize::from(options.bos.is_some());
        for (option, found, expected) in
            [("samples", options.samples, 1), ("seq_len", options.seq_len, least)]
        {
            if found < expected {
                return Err(CalibrationError::BatchOption { option, found, expected });
            }
        }
        let mut encoded = encode(documents, tokenizer)?;
        for ids in &mut encoded {
            if options.bos.is_some() && ids.first().copied() == options.bos {
                ids.remove(0); // a chat template may write BOS itself; one is enough
            }
        }
        let text_tokens = encoded.iter().map(Vec::len).sum();
        if text_tokens == 0 {
            return Err(CalibrationError::EmptyText { documents: documents.len() });
        }
        let mut random = SplitMix64::new(options.seed);
        random.shuffle(&mut encoded);
        let (windows, short_documents) = match options.packing {
            Packing::Packed => (packed(&encoded, options)?, 0),
            Packing::Truncated => truncated(&encoded, options)?,
        };
        let chosen = random.choose(windows.len(), options.samples);
        let tokens: Vec<Vec<u32>> = chosen.iter().map(|&n| windows[n].clone()).collect();
        Ok(TokenBatches {
            hash: TokenBatches::hash_of(&tokens, options),
            tokens,
            seq_len: options.seq_len,
            bos: options.bos,
            documents: documents.len(),
            short_documents,
            text_tokens,
            available: windows.len(),
            requested: options.samples,
        })
    }
}

/// Token ids of each document.
///
/// Long documents are tokenized in pieces, several at a time: the `tokenizers` crate takes over 100 bytes of
/// memory for each of a text. A token that would span two pieces, such as a run of line ends, is divided.
pub(crate) fn encode(
    documents: &[Document],
    tokenizer: &Tokenizer,
) -> Result<Vec<Vec<u32>>, CalibrationError> {
    let pieces: Vec<(usize, &str)> = documents
        .iter()
        .enumerate()
        .flat_map(|(n, document)| Pieces { rest: &document.text }.map(move |piece| (n, piece)))
        .collect();
    let encoded: Result<Vec<Vec<u32>>, CalibrationError> = pieces
        .par_iter()
        .map(|(n, piece)| match documents[*n].kind {
            TextKind::Plain => tokenizer.encode_text(piece),
            TextKind::Markup => tokenizer.encode_markup(piece),
        })
        .collect();
    let mut joined = vec![Vec::new(); documents.len()];
    for ((n, _), ids) in pieces.iter().zip(encoded?) {
        joined[*n].extend(ids);
    }
    Ok(joined)
}

/// A text in pieces of at most [`PIECE_BYTES`], cut after a line end if there is one, else before a space,
/// else anywhere.
struct Pieces<'a> {
    rest: &'a str,
}

/// Bytes of a long document that are tokenized at once.
const PIECE_BYTES: usize = 64 << 10;

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.rest;
        if text.is_empty() {
            return None;
        }
        let end = if text.len() <= PIECE_BYTES {
            text.len()
        } else {
            let limit = text.floor_char_boundary(PIECE_BYTES);
            let line_end = text[..limit].rfind('\n').map(|n| n + 1);
            line_end.or_else(|| text[..limit].rfind(' ').filter(|&n| n > 0)).unwrap_or(limit)
        };
        let (piece, rest) = text.split_at(end);
        self.rest = rest;
        Some(piece)
    }
}

/// Consecutive windows of the joined documents; what is left at the end is dropped.
fn packed(documents: &[Vec<u32>], options: &BatchOptions) -> Result<Vec<Vec<u32>>, CalibrationError> {
    let mut stream: Vec<u32> = Vec::new();
    for document in documents.iter().filter(|ids| !ids.is_empty()) {
        stream.extend(options.bos);
        stream.extend(document);
    }
    let mut windows = Vec::new();
    let mut rest = stream.as_slice();
    loop {
        let begins = options.bos.is_some() && rest.first().copied() == options.bos;
        let prefix = if begins { None } else { options.bos };
        let length = options.seq_len - prefix.iter().len();
        let Some((window, after)) = rest.split_at_checked(length) else { break };
        windows.push(prefix.into_iter().chain(window.iter().copied()).collect());
        rest = after;
    }
    if windows.is_empty() {
        return Err(CalibrationError::TooShort {
            needed: options.seq_len,
            what: "the whole text",
            found: stream.len(),
            documents: documents.len(),
        });
    }
    Ok(windows)
}

/// The beginnings of documents that are long enough, and the number of those that are not.
fn truncated(
    documents: &[Vec<u32>],
    options: &BatchOptions,
) -> Result<(Vec<Vec<u32>>, usize), CalibrationError> {
    let length = options.seq_len - options.bos.iter().len();
    let long = documents.iter().filter_map(|ids| ids.get(..length));
    let windows: Vec<Vec<u32>> =
        long.map(|ids| options.bos.into_iter().chain(ids.iter().copied()).collect()).collect();
    if windows.is_empty() {
        return Err(CalibrationError::TooShort {
            needed: options.seq_len,
            what: "the longest document",
            found: documents.iter().map(Vec::len).max().unwrap_or(0) + options.bos.iter().len(),
            documents: documents.len(),
        });
    }
    let short = documents.len() - windows.len();
    Ok((windows, short))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_join_to_the_text_and_end_at_lines() {
        let lines: String = (0..20_000).map(|n| format!("line {n} 수\n")).collect();
        let words: String = (0..20_000).map(|n| format!("word{n} ")).collect();
        let letters = "수".repeat(50_000);
        for (text, end) in [(&lines, Some('\n')), (&words, None), (&letters, None)] {
            let pieces: Vec<&str> = Pieces { rest: text }.collect();
            assert!(pieces.len() > 1 && pieces.iter().all(|piece| piece.len() <= PIECE_BYTES));
            assert_eq!(&pieces.concat(), text);
            assert!(end.is_none_or(|end| pieces.iter().all(|piece| piece.ends_with(end))));
        }
        let words: Vec<&str> = Pieces { rest: &words }.collect();
        assert!(words[1..].iter().all(|piece| piece.starts_with(' ')));
        assert_eq!(Pieces { rest: "" }.count(), 0);
    }
}
