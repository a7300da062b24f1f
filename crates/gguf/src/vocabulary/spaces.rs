//! Tokenizers made from SentencePiece models: how they turn spaces into `▁`, which GGUF and llama.cpp say in another way.

use std::collections::HashSet;

use serde_json::Value;

use super::differences::Differences;
use super::error::{Note, VocabularyError};
use super::json::{self, optional};
use super::sentence_piece::{byte_token, extra_merges, scores};
use super::{Model, TokenKind};
use crate::container::Strings;

/// The steps of a normalizer, `Sequence`s opened.
pub(super) fn flatten_normalizer(normalizer: &Value) -> Vec<&Value> {
    match normalizer.get("normalizers").and_then(Value::as_array) {
        Some(all) => all.iter().flat_map(flatten_normalizer).collect(),
        None => vec![normalizer],
    }
}

pub(super) fn sentence_piece(
    tokenizer: &Value,
    tokens: &Strings,
    kinds: &[TokenKind],
    merges: &[(String, String)],
    notes: &mut Vec<Note>,
) -> Result<(Model, Differences), VocabularyError> {
    let known: HashSet<&str> = tokens
        .iter()
        .zip(kinds)
        .filter(|(_, kind)| matches!(kind, TokenKind::Byte | TokenKind::Normal | TokenKind::UserDefined))
        .map(|(text, _)| text)
        .collect();
    // Gemma has the tab itself in place of the token for its byte; llama.cpp looks for both.
    let stands_for = |byte: &u8| {
        known.contains(byte_token(*byte).as_str())
            || (byte.is_ascii() && known.contains(char::from(*byte).encode_utf8(&mut [0; 4]) as &str))
    };
    if let Some(byte) = (0..=255).find(|byte| !stands_for(byte)) {
        return Err(VocabularyError::MissingByteToken { token: byte_token(byte) });
    }
    let (add_space_prefix, mut differences) = read_spaces(tokenizer, tokens, kinds, notes)?;
    if json::flag(&tokenizer["model"], "ignore_merges")? {
        notes.push(Note::IgnoreMerges(true));
    }
    notes.extend(extra_merges(tokens, kinds, merges)?);
    let normal: HashSet<&str> = tokens
        .iter()
        .zip(kinds)
        .filter(|(_, kind)| **kind == TokenKind::Normal)
        .map(|(text, _)| text)
        .collect();
    let makes_added = |(left, right): &&(String, String)| !normal.contains(format!("{left}{right}").as_str());
    differences.added_merges = merges.iter().filter(makes_added).cloned().collect();
    Ok((Model::SentencePiece { scores: scores(tokens, kinds, merges), add_space_prefix }, differences))
}

/// How the tokenizer turns spaces into `▁`: by a normalizer, or by the `Metaspace` pre-tokenizer.
fn read_spaces(
    tokenizer: &Value,
    tokens: &Strings,
    kinds: &[TokenKind],
    notes: &mut Vec<Note>,
) -> Result<(bool, Differences), VocabularyError> {
    let steps = optional(tokenizer, "normalizer").map(flatten_normalizer).unwrap_or_default();
    let pre = optional(tokenizer, "pre_tokenizer");
    let prepends = |s: &Value| json::kind(s) == "Prepend" && s["prepend"] == "▁";
    let replaces =
        |s: &Value| json::kind(s) == "Replace" && s["pattern"]["String"] == " " && s["content"] == "▁";
    let mut differences = Differences::default();
    if json::flag(&tokenizer["model"], "ignore_merges")? {
        differences.ignore_merges = Some(true);
    }
    match (steps.as_slice(), pre) {
        ([first, second], None) if prepends(first) && replaces(second) => Ok((true, differences)),
        ([only], None) if replaces(only) => Ok((false, differences)),
        // Gemma: no space is left that this could split at
        ([only], Some(split)) if replaces(only) && is_split_at_spaces(split) => {
            differences.pre_tokenizer = Some(split.clone());
            Ok((false, differences))
        }
        ([], Some(metaspace)) if json::kind(metaspace) == "Metaspace" && metaspace["replacement"] == "▁" => {
            // Absent fields default as in the `tokenizers` crate.
            let scheme = optional(metaspace, "prepend_scheme").and_then(Value::as_str).unwrap_or("always");
            let never = scheme == "never" || metaspace["add_prefix_space"] == Value::Bool(false);
            let split = optional(metaspace, "split").is_none_or(|v| *v == Value::Bool(true));
            if !never {
                notes.push(Note::SpacePrefix);
            }
            let crosses = |text: &str| text.chars().skip(1).any(|c| c == '▁');
            if split && tokens.iter().zip(kinds).any(|(t, k)| *k == TokenKind::Normal && crosses(t)) {
                notes.push(Note::NotSplit);
            }
            differences.normalizer = Some(Value::Null);
            differences.pre_tokenizer = Some(metaspace.clone());
            Ok((!never, differences))
        }
        _ => Err(VocabularyError::UnsupportedNormalizer {
            found: format!(
                "{} with the pre-tokenizer {}",
                tokenizer["normalizer"], tokenizer["pre_tokenizer"]
            ),
        }),
    }
}

/// A `Split` at spaces, which come to stand at the end of what is in front of them.
fn is_split_at_spaces(step: &Value) -> bool {
    json::kind(step) == "Split" && step["pattern"]["String"] == " "
}
