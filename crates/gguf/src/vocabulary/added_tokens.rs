//! The `added_tokens` of a `tokenizer.json`.

use serde_json::{Value, json};

use super::error::VocabularyError;
use super::json::{flag, optional, wrong};
use super::{Model, TokenKind};
use crate::container::Strings;

/// A token matched in the text before the model sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AddedToken {
    pub id: u64,
    pub content: String,
    pub special: bool,
    pub single_word: bool,
    pub lstrip: bool,
    pub rstrip: bool,
    pub normalized: bool,
}

impl AddedToken {
    /// All of a tokenizer, by ascending id.
    pub(super) fn read_all(tokenizer: &Value) -> Result<Vec<Self>, VocabularyError> {
        let Some(list) = optional(tokenizer, "added_tokens") else { return Ok(Vec::new()) };
        let list = list.as_array().ok_or_else(|| wrong("added_tokens", "an array", Some(list)))?;
        let mut all = list.iter().map(Self::read).collect::<Result<Vec<_>, _>>()?;
        all.sort_by_key(|t| t.id);
        Ok(all)
    }

    fn read(token: &Value) -> Result<Self, VocabularyError> {
        let id = token.get("id");
        let content = token.get("content");
        Ok(Self {
            id: id.and_then(Value::as_u64).ok_or_else(|| wrong("added_tokens[].id", "a token id", id))?,
            content: content
                .and_then(Value::as_str)
                .filter(|s| !s.is_empty())
                .ok_or_else(|| wrong("added_tokens[].content", "a string that is not empty", content))?
                .to_owned(),
            special: flag(token, "special")?,
            single_word: flag(token, "single_word")?,
            lstrip: flag(token, "lstrip")?,
            rstrip: flag(token, "rstrip")?,
            normalized: flag(token, "normalized")?,
        })
    }

    /// The kind under which GGUF stores it: some that are not marked special are used as control tokens all the same
    /// (`does_token_look_special` of the converter).
    pub(super) fn kind(&self) -> TokenKind {
        let s = self.content.as_str();
        let looks_special = matches!(s, "<pad>" | "<mask>" | "<2mass>" | "[@BOS@]")
            || (s.starts_with("<|") && s.ends_with("|>"))
            || (s.starts_with("<｜") && s.ends_with("｜>"))
            || (s.starts_with("<unused") && s.ends_with('>'));
        if self.special || looks_special { TokenKind::Control } else { TokenKind::UserDefined }
    }

    /// The text under which GGUF stores it: llama.cpp matches user-defined tokens before it replaces spaces by `▁`.
    pub(super) fn stored_text(&self) -> String {
        match self.kind() {
            TokenKind::UserDefined => self.content.replace('▁', " "),
            _ => self.content.clone(),
        }
    }

    /// The added tokens that GGUF's token kinds alone tell of.
    pub(super) fn from_kinds(model: &Model, tokens: &Strings, kinds: &[TokenKind]) -> Vec<Self> {
        tokens
            .iter()
            .zip(kinds)
            .enumerate()
            .filter(|(_, (_, kind))| {
                matches!(kind, TokenKind::Control | TokenKind::UserDefined | TokenKind::Unknown)
            })
            .map(|(id, (text, kind))| {
                let special = *kind != TokenKind::UserDefined;
                Self {
                    id: id as u64,
                    content: text.to_owned(),
                    special,
                    single_word: false,
                    lstrip: false,
                    rstrip: false,
                    // Byte-level tokenizers have no normalizer that matters here; their files say so this way.
                    normalized: !special && matches!(model, Model::ByteLevel { .. }),
                }
            })
            .collect()
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "id": self.id,
            "content": self.content,
            "single_word": self.single_word,
            "lstrip": self.lstrip,
            "rstrip": self.rstrip,
            "normalized": self.normalized,
            "special": self.special,
        })
    }
}
