//! SentencePiece-style BPE: merges in Hugging Face files, scores in GGUF.
//!
//! llama.cpp merges any two neighbours whose concatenation is a token, the highest score first, the leftmost among equals
//! (`llm_tokenizer_spm_session`). Hugging Face merges listed pairs, the first of the list first. The two agree where a
//! token's score falls with the rank of its merges and every pair that makes up a token is listed, which is how such
//! tokenizers are made from SentencePiece models (`generate_merges` in transformers).

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use super::TokenKind;
use super::error::{Note, VocabularyError};
use crate::container::Strings;

/// Longest token that is split to find its merges.
const MAX_TOKEN_BYTES: usize = 1024;

/// Score of a row without a token, as the converter sets it.
const UNUSED_SCORE: f32 = -10000.0;

/// The token for a byte, for example `<0x0A>`.
pub(super) fn byte_token(byte: u8) -> String {
    format!("<0x{byte:02X}>")
}

/// True for the spelling of [`byte_token`].
pub(super) fn is_byte_token(text: &str) -> bool {
    text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>')).is_some_and(|hex| {
        hex.len() == 2 && hex.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b))
    })
}

/// Scores by id: minus the best rank of a merge that makes up the token.
///
/// Characters that no merge makes up score below all merges, as in SentencePiece; it has no effect.
pub(super) fn scores(tokens: &Strings, kinds: &[TokenKind], merges: &[(String, String)]) -> Vec<f32> {
    let mut rank: HashMap<String, usize> = HashMap::with_capacity(merges.len());
    for (at, (left, right)) in merges.iter().enumerate() {
        rank.entry(format!("{left}{right}")).or_insert(at);
    }
    tokens
        .iter()
        .zip(kinds)
        .map(|(text, kind)| match kind {
            TokenKind::Unused => UNUSED_SCORE,
            TokenKind::Normal => -(*rank.get(text).unwrap_or(&merges.len()) as f32),
            _ => 0.0,
        })
        .collect()
}

/// The merges that llama.cpp does for these scores, in order of rank.
///
/// # Errors
/// A token is unreasonably long.
pub(super) fn merges(
    tokens: &Strings,
    kinds: &[TokenKind],
    scores: &[f32],
) -> Result<Vec<(String, String)>, VocabularyError> {
    let mut found = Vec::new();
    for_each_split(tokens, kinds, |id, left, right| found.push((id, left, right)))?;
    // Equal scores: longer left parts first, as when SentencePiece models are converted; the order is fixed at least.
    found.sort_by(|(a, left_a, _), (b, left_b, _)| {
        scores[*b]
            .partial_cmp(&scores[*a])
            .unwrap_or(Ordering::Equal)
            .then(a.cmp(b))
            .then(left_b.len().cmp(&left_a.len()))
    });
    Ok(found.into_iter().map(|(_, left, right)| (left.to_owned(), right.to_owned())).collect())
}

/// The note on pairs that llama.cpp merges and the tokenizer does not, where there are such.
///
/// # Errors
/// A token is unreasonably long.
pub(super) fn extra_merges(
    tokens: &Strings,
    kinds: &[TokenKind],
    merges: &[(String, String)],
) -> Result<Option<Note>, VocabularyError> {
    let listed: HashSet<(&str, &str)> = merges.iter().map(|(l, r)| (l.as_str(), r.as_str())).collect();
    let (mut pairs, mut example) = (0, None);
    for_each_split(tokens, kinds, |_, left, right| {
        if !listed.contains(&(left, right)) {
            pairs += 1;
            example.get_or_insert_with(|| (left.to_owned(), right.to_owned()));
        }
    })?;
    Ok(example.map(|example| Note::ExtraMerges { pairs, example }))
}

/// Calls `found` with the id and the two parts for every way to make up an ordinary token from two others.
fn for_each_split<'a>(
    tokens: &'a Strings,
    kinds: &[TokenKind],
    mut found: impl FnMut(usize, &'a str, &'a str),
) -> Result<(), VocabularyError> {
    let normal = || tokens.iter().zip(kinds).enumerate().filter(|(_, (_, k))| **k == TokenKind::Normal);
    let known: HashSet<&str> = normal().map(|(_, (text, _))| text).collect();
    for (id, (text, _)) in normal() {
        if text.len() > MAX_TOKEN_BYTES {
            return Err(VocabularyError::TokenTooLong { bytes: text.len(), at_most: MAX_TOKEN_BYTES });
        }
        for (at, _) in text.char_indices().skip(1) {
            let (left, right) = text.split_at(at);
            if known.contains(left) && known.contains(right) {
                found(id, left, right);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_tokens() {
        for byte in 0..=255 {
            assert!(is_byte_token(&byte_token(byte)));
        }
        for other in ["<0x0a>", "<0x0>", "<0x000>", "0x00", "<0xG0>", ""] {
            assert!(!is_byte_token(other), "{other}");
        }
    }

    #[test]
    fn merges_and_scores_are_inverse() {
        let tokens: Strings = ["a", "b", "ab", "abab", "aba", "ba"].into_iter().collect();
        let kinds = [TokenKind::Normal; 6];
        let pair = |l: &str, r: &str| (l.to_owned(), r.to_owned());
        let all = [
            pair("a", "b"),
            pair("ab", "ab"),
            pair("aba", "b"),
            pair("a", "ba"),
            pair("ab", "a"),
            pair("b", "a"),
        ];
        let scores = scores(&tokens, &kinds, &all);
        assert_eq!(scores, [-6.0, -6.0, 0.0, -1.0, -3.0, -5.0]);
        let mut back = merges(&tokens, &kinds, &scores).unwrap();
        assert_eq!(back[0], pair("a", "b"));
        back.sort();
        let mut sorted = all.to_vec();
        sorted.sort();
        assert_eq!(back, sorted);
        assert_eq!(extra_merges(&tokens, &kinds, &all).unwrap(), None);
        assert_eq!(
            extra_merges(&tokens, &kinds, &all[..5]).unwrap(),
            Some(Note::ExtraMerges { pairs: 1, example: ("b".into(), "a".into()) })
        );
    }
}
