//! SentencePiece's unigram language model: of all ways to write a text as pieces, the most likely one (Kudo 2018, arXiv 1804.10959,
//! section 3.2).
//!
//! llama.cpp has it as the tokenizer of T5 (`llm_tokenizer_ugm`) and runs it with models of any architecture.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::Model;
use super::differences::Differences;
use super::error::{Note, VocabularyError};
use super::json::{self, optional, wrong};
use super::spaces::flatten_normalizer;

/// Score of a row without a piece, as the converter sets it.
const UNUSED_SCORE: f32 = -10000.0;

/// The pieces with their ids.
pub(super) fn pieces(model: &Value) -> Result<Vec<(&str, u64)>, VocabularyError> {
    let text = |entry: &Value| entry.get(0).and_then(Value::as_str).is_some();
    let vocab = json::array(model, "vocab")?;
    match vocab.iter().find(|entry| !text(entry)) {
        Some(bad) => Err(wrong("model.vocab[]", "a piece and its score", Some(bad))),
        None => Ok(vocab.iter().map(|entry| entry[0].as_str().unwrap_or_default()).zip(0..).collect()),
    }
}

/// Reads the model, and how it treats spaces and characters.
pub(super) fn read(
    tokenizer: &Value,
    vocab_size: usize,
    notes: &mut Vec<Note>,
) -> Result<(Model, Differences), VocabularyError> {
    let model = &tokenizer["model"];
    if json::flag(model, "byte_fallback")? {
        return Err(VocabularyError::UnigramBytes);
    }
    let mut scores = vec![UNUSED_SCORE; vocab_size];
    for (slot, entry) in scores.iter_mut().zip(json::array(model, "vocab")?) {
        *slot = match entry[1].as_f64() {
            Some(score) => score as f32,
            None => return Err(wrong("model.vocab[]", "a piece and its score", Some(entry))),
        };
    }
    let unsupported = || VocabularyError::UnsupportedNormalizer {
        found: format!("{} with the pre-tokenizer {}", tokenizer["normalizer"], tokenizer["pre_tokenizer"]),
    };
    let mut steps = optional(tokenizer, "normalizer").map(flatten_normalizer).unwrap_or_default();
    let charsmap = match steps.first() {
        Some(first) if json::kind(first) == "Precompiled" => {
            let table = optional(first, "precompiled_charsmap").and_then(Value::as_str).unwrap_or_default();
            steps.remove(0);
            BASE64_STANDARD
                .decode(table)
                .map_err(|error| VocabularyError::Charsmap { reason: error.to_string() })?
        }
        _ => Vec::new(),
    };
    let strips = |step: &Value| json::kind(step) == "Strip" && step["strip_right"] == true;
    let joins = |step: &Value| json::kind(step) == "Replace" && step["pattern"]["Regex"] == " {2,}";
    let remove_extra_whitespaces = match steps.as_slice() {
        [] => false,
        [strip, join] if strips(strip) && joins(join) => true,
        _ => return Err(unsupported()),
    };
    let metaspace = &tokenizer["pre_tokenizer"];
    if json::kind(metaspace) != "Metaspace" || metaspace["replacement"] != "▁" {
        return Err(unsupported());
    }
    let scheme = optional(metaspace, "prepend_scheme").and_then(Value::as_str).unwrap_or("always");
    let never = scheme == "never" || metaspace["add_prefix_space"] == false;
    if !never && scheme == "first" {
        notes.push(Note::SpacePrefix);
    }
    let differences = Differences { pre_tokenizer: Some(metaspace.clone()), ..Differences::default() };
    Ok((Model::Unigram { scores, add_space_prefix: !never, remove_extra_whitespaces, charsmap }, differences))
}

/// The normalizer that does what GGUF's keys say.
pub(super) fn normalizer(charsmap: &[u8], remove_extra_whitespaces: bool) -> Value {
    let mut steps = Vec::new();
    if !charsmap.is_empty() {
        steps.push(json!({"type": "Precompiled", "precompiled_charsmap": BASE64_STANDARD.encode(charsmap)}));
    }
    if remove_extra_whitespaces {
        steps.push(json!({"type": "Strip", "strip_left": false, "strip_right": true}));
        steps.push(json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}));
    }
    json!({"type": "Sequence", "normalizers": steps})
}
