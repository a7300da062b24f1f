//! Tokens to text as they come.

use crate::{CalibrationError, Tokenizer};

/// Tokens in front of a text that its first ones are decoded with: enough for what tokenizers make of the first token of a
/// text alone (they may drop the space in front of it).
const LOOK_BACK: usize = 6;

/// Decodes a growing sequence: every piece of text once, none while its last character is incomplete.
///
/// Token n is decoded together with those since the last piece but one, as what a token spells can depend on its
/// neighbours; the algorithm is that of text-generation-inference's `decode_token`.
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    ids: Vec<u32>,
    /// Tokens before this one are no longer looked at.
    start: usize,
    /// The text of tokens before this one is out.
    done: usize,
}

impl<'a> TextStream<'a> {
    /// A stream of what follows the tokens of `prompt`.
    pub fn after(tokenizer: &'a Tokenizer, prompt: &[u32]) -> Self {
        let ids = prompt[prompt.len().saturating_sub(LOOK_BACK)..].to_vec();
        Self { tokenizer, start: 0, done: ids.len(), ids }
    }

    /// Takes the next token; gives the text that is complete now, without special tokens.
    ///
    /// # Errors
    /// A token the tokenizer does not have.
    pub fn push(&mut self, token: u32) -> Result<String, CalibrationError> {
        self.ids.push(token);
        self.take(false)
    }

    /// What is left at the end: bytes that are no whole character come as U+FFFD.
    ///
    /// # Errors
    /// As [`TextStream::push`].
    pub fn finish(mut self) -> Result<String, CalibrationError> {
        self.take(true)
    }

    fn take(&mut self, last: bool) -> Result<String, CalibrationError> {
        let before = self.tokenizer.decode(&self.ids[self.start..self.done], true)?;
        let text = self.tokenizer.decode(&self.ids[self.start..], true)?;
        let Some(new) = text.get(before.len()..).filter(|new| !new.is_empty()) else {
            return Ok(String::new());
        };
        if !last && new.ends_with(char::REPLACEMENT_CHARACTER) {
            return Ok(String::new());
        }
        self.start = self.done;
        self.done = self.ids.len();
        Ok(new.to_owned())
    }
}
