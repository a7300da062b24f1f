//! What GGUF's own keys cannot say about a tokenizer, kept in a key of slmc's.
//!
//! llama.cpp ignores the key. With it, [`super::Vocabulary::to_tokenizer_json`] rebuilds the original tokenizer and not
//! llama.cpp's approximation of it.

use serde_json::{Map, Value, json};

use super::added_tokens::AddedToken;
use super::error::{Note, VocabularyError};
use super::json::{array, flag, wrong};

/// The key: a JSON object as text, with the members of a `tokenizer.json` that differ from what the other keys tell.
pub(super) const KEY: &str = "slmc.tokenizer.differences";

/// Members that replace those rebuilt from GGUF's keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Differences {
    pub normalizer: Option<Value>,
    pub pre_tokenizer: Option<Value>,
    pub ignore_merges: Option<bool>,
    pub added_tokens: Option<Vec<AddedToken>>,
    /// Merges that make up added tokens, which no score tells of; in front of all others.
    pub added_merges: Vec<(String, String)>,
}

impl Differences {
    /// Keeps the tokenizer's added tokens where the `rebuilt` ones differ, and notes the flags llama.cpp cannot know.
    pub(super) fn note_added_tokens(
        &mut self,
        original: &[AddedToken],
        rebuilt: Vec<AddedToken>,
        notes: &mut Vec<Note>,
    ) {
        let flagged: Vec<String> = original
            .iter()
            .filter(|t| t.lstrip || t.rstrip || t.single_word)
            .map(|t| t.content.clone())
            .collect();
        if !flagged.is_empty() {
            notes.push(Note::AddedTokenFlags(flagged));
        }
        if original != rebuilt {
            self.added_tokens = Some(original.to_vec());
        }
    }

    /// The text of [`KEY`], if there is anything to say.
    pub(super) fn to_text(&self) -> Option<String> {
        let mut all = Map::new();
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                all.insert(name.to_owned(), value);
            }
        };
        put("normalizer", self.normalizer.clone());
        put("pre_tokenizer", self.pre_tokenizer.clone());
        put("ignore_merges", self.ignore_merges.map(Value::Bool));
        put(
            "added_tokens",
            self.added_tokens.as_ref().map(|list| list.iter().map(AddedToken::to_json).collect()),
        );
        let merges: Vec<Value> = self.added_merges.iter().map(|(left, right)| json!([left, right])).collect();
        put("added_merges", (!merges.is_empty()).then_some(Value::Array(merges)));
        (!all.is_empty()).then(|| Value::Object(all).to_string())
    }

    pub(super) fn from_text(text: &str) -> Result<Self, VocabularyError> {
        let all: Value = serde_json::from_str(text)
            .ok()
            .filter(Value::is_object)
            .ok_or_else(|| wrong(KEY, "a JSON object", Some(&Value::from(text))))?;
        Ok(Self {
            normalizer: all.get("normalizer").cloned(),
            pre_tokenizer: all.get("pre_tokenizer").cloned(),
            ignore_merges: all.get("ignore_merges").map(|_| flag(&all, "ignore_merges")).transpose()?,
            added_tokens: all.get("added_tokens").map(|_| AddedToken::read_all(&all)).transpose()?,
            added_merges: match all.get("added_merges") {
                None => Vec::new(),
                Some(_) => array(&all, "added_merges")?.iter().map(read_merge).collect::<Result<_, _>>()?,
            },
        })
    }
}

fn read_merge(merge: &Value) -> Result<(String, String), VocabularyError> {
    match (merge[0].as_str(), merge[1].as_str()) {
        (Some(left), Some(right)) => Ok((left.to_owned(), right.to_owned())),
        _ => Err(wrong("added_merges[]", "two strings", Some(merge))),
    }
}
