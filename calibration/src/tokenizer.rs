//! The model's tokenizer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;

use crate::CalibrationError;

/// A tokenizer read from `tokenizer.json` (or its JSON value), with truncation and padding off: a file may
/// carry settings that would silently cut a text.
pub struct Tokenizer {
    path: PathBuf,
    /// Takes the spelling of a special token in a text as text.
    plain: tokenizers::Tokenizer,
    /// Takes it as the token; made when first needed, as a vocabulary is large.
    markup: OnceLock<tokenizers::Tokenizer>,
    bos: Option<u32>,
}

impl Tokenizer {
    /// Reads a `tokenizer.json` file.
    pub fn from_file(path: &Path) -> Result<Self, CalibrationError> {
        let bytes = std::fs::read(path)
            .map_err(|source| CalibrationError::Io { path: path.to_path_buf(), source })?;
        Self::from_bytes(&bytes, path)
    }

    /// Takes the contents of a `tokenizer.json`; `path` says in errors where they are from.
    pub fn from_json(json: &Value, path: &Path) -> Result<Self, CalibrationError> {
        Self::from_bytes(json.to_string().as_bytes(), path)
    }

    fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self, CalibrationError> {
        let failed = |e: tokenizers::Error| tokenizer_error(path, e);
        let mut plain = tokenizers::Tokenizer::from_bytes(bytes).map_err(failed)?;
        plain.with_truncation(None).map_err(failed)?;
        plain.with_padding(None);
        plain.set_encode_special_tokens(true);
        // What the post-processor puts before a text that begins with no special token of its own.
        let empty = plain.encode_fast("", true).map_err(failed)?;
        let bos = match empty.get_ids() {
            [first, ..] => {
                let with_text = plain.encode_fast("a", true).map_err(failed)?;
                (with_text.get_ids().first() == Some(first)).then_some(*first)
            }
            [] => None,
        };
        Ok(Self { path: path.to_path_buf(), plain, markup: OnceLock::new(), bos })
    }

    /// Where it is from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Token ids of a text, with nothing added. The spelling of a special token (`<|end_of_text|>`) is taken
    /// as text, as llama.cpp does with `parse_special = false`. A whole file may be given at once:
    /// time grows with its length only, memory by some 120 bytes for each of its own.
    pub fn encode_text(&self, text: &str) -> Result<Vec<u32>, CalibrationError> {
        self.ids(&self.plain, text, false)
    }

    /// Token ids of a text as [`encode_text`](Self::encode_text) gives them, and for each how many bytes of the text it and those
    /// before it cover: never fewer than before, and where several tokens make up one character, all of it from the first on.
    /// Takes more time and memory than the ids alone.
    ///
    /// # Errors
    /// A tokenizer that fails.
    pub fn encode_text_with_ends(&self, text: &str) -> Result<(Vec<u32>, Vec<usize>), CalibrationError> {
        self.ids_and_ends(&self.plain, text)
    }

    /// As [`encode_markup`](Self::encode_markup), with the ends that [`encode_text_with_ends`](Self::encode_text_with_ends) gives.
    ///
    /// # Errors
    /// A tokenizer that fails.
    pub fn encode_markup_with_ends(&self, text: &str) -> Result<(Vec<u32>, Vec<usize>), CalibrationError> {
        self.ids_and_ends(self.markup(), text)
    }

    fn ids_and_ends(
        &self,
        tokenizer: &tokenizers::Tokenizer,
        text: &str,
    ) -> Result<(Vec<u32>, Vec<usize>), CalibrationError> {
        let encoding = tokenizer.encode(text, false).map_err(|e| tokenizer_error(&self.path, e))?;
        let ends = encoding.get_offsets().iter().scan(0, |covered, &(_, end)| {
            *covered = end.max(*covered);
            Some(*covered)
        });
        Ok((encoding.get_ids().to_vec(), ends.collect()))
    }

    /// Token ids of a text in which the spelling of a special token means the token, with nothing added: what
    /// a chat template has rendered.
    pub fn encode_markup(&self, text: &str) -> Result<Vec<u32>, CalibrationError> {
        self.ids(self.markup(), text, false)
    }

    /// Token ids of a text as transformers' `tokenizer(text)` gives them: spellings of special tokens mean
    /// the tokens, and the post-processor adds its own (usually BOS first).
    pub fn encode_with_special_tokens(&self, text: &str) -> Result<Vec<u32>, CalibrationError> {
        self.ids(self.markup(), text, true)
    }

    /// The text of some tokens.
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String, CalibrationError> {
        self.plain.decode(ids, skip_special_tokens).map_err(|e| tokenizer_error(&self.path, e))
    }

    /// The token that the tokenizer itself puts first, if it does: the beginning-of-sequence token of a
    /// model that expects one.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The id of a token by its spelling in the vocabulary.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.plain.token_to_id(token)
    }

    /// Every token's spelling by its id.
    pub fn vocabulary(&self) -> BTreeMap<u32, String> {
        self.plain.get_vocab(true).into_iter().map(|(token, id)| (id, token)).collect()
    }

    /// One more than the largest token id: rows an embedding must have at least.
    pub fn vocab_size(&self) -> usize {
        self.largest_token().map_or(0, |(_, id)| id as usize + 1)
    }

    /// Checks that every token has a row in the model's embedding. More rows than tokens are usual: they are
    /// padding.
    pub fn check_vocab_size(&self, rows: usize) -> Result<(), CalibrationError> {
        match self.largest_token() {
            Some((token, id)) if id as usize >= rows => {
                Err(CalibrationError::VocabularyMismatch { path: self.path.clone(), token, id, rows })
            }
            _ => Ok(()),
        }
    }

    fn largest_token(&self) -> Option<(String, u32)> {
        self.plain.get_vocab(true).into_iter().max_by_key(|(_, id)| *id)
    }

    fn markup(&self) -> &tokenizers::Tokenizer {
        self.markup.get_or_init(|| {
            let mut markup = self.plain.clone();
            markup.set_encode_special_tokens(false);
            markup
        })
    }

    fn ids(
        &self,
        tokenizer: &tokenizers::Tokenizer,
        text: &str,
        add_special_tokens: bool,
    ) -> Result<Vec<u32>, CalibrationError> {
        let encoding =
            tokenizer.encode_fast(text, add_special_tokens).map_err(|e| tokenizer_error(&self.path, e))?;
        Ok(encoding.get_ids().to_vec())
    }
}

fn tokenizer_error(path: &Path, error: tokenizers::Error) -> CalibrationError {
    CalibrationError::Tokenizer { path: path.to_path_buf(), reason: error.to_string() }
}
