//! Documents as a model is trained on them: tokens, and which of them it is to learn to say.

use std::ops::Range;

use rayon::prelude::*;

use crate::batches::encode;
use crate::{CalibrationError, Document, TextKind, Tokenizer};

/// The tokens of one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrainingTokens {
    /// Token ids, without a token in front that the tokenizer adds itself.
    pub ids: Vec<u32>,
    /// Whether each of them is a part of an answer; `None` where the whole document is to be learned.
    pub learned: Option<Vec<bool>>,
}

/// Tokenizes documents, and finds the tokens of their answers: those that have a byte of one, as transformers'
/// `apply_chat_template(…, return_assistant_tokens_mask=True)` has it.
///
/// # Errors
/// A tokenizer that fails.
pub fn tokenize_to_train(
    documents: &[Document],
    tokenizer: &Tokenizer,
) -> Result<Vec<TrainingTokens>, CalibrationError> {
    let (whole, answered): (Vec<_>, Vec<_>) =
        documents.iter().cloned().enumerate().partition(|(_, document)| document.answers.is_none());
    let mut found: Vec<(usize, TrainingTokens)> = Vec::with_capacity(documents.len());
    let (places, whole): (Vec<usize>, Vec<Document>) = whole.into_iter().unzip();
    let tokens = encode(&whole, tokenizer)?.into_iter().map(|ids| TrainingTokens { ids, learned: None });
    found.extend(places.into_iter().zip(tokens));
    let answered: Result<Vec<_>, CalibrationError> = answered
        .par_iter()
        .map(|(n, document)| {
            let (ids, ends) = match document.kind {
                TextKind::Plain => tokenizer.encode_text_with_ends(&document.text)?,
                TextKind::Markup => tokenizer.encode_markup_with_ends(&document.text)?,
            };
            let answers = document.answers.as_deref().unwrap_or_default();
            Ok((*n, TrainingTokens { ids, learned: Some(within(&ends, answers)) }))
        })
        .collect();
    found.extend(answered?);
    found.sort_by_key(|(n, _)| *n);
    let bos = tokenizer.bos();
    Ok(found
        .into_iter()
        .map(|(_, mut tokens)| {
            // a chat template may write it itself
            if bos.is_some() && tokens.ids.first().copied() == bos {
                tokens.ids.remove(0);
                tokens.learned.iter_mut().for_each(|learned| {
                    learned.remove(0);
                });
            }
            tokens
        })
        .collect())
}

/// Of tokens that end at these bytes, which have a byte of one of the ranges. Where several tokens make up one character, the later
/// ones begin and end behind it, and go with the first.
fn within(ends: &[usize], ranges: &[Range<usize>]) -> Vec<bool> {
    let mut start = 0;
    ends.iter()
        .map(|&end| {
            let from = std::mem::replace(&mut start, end);
            let first_byte = if from == end { end.saturating_sub(1) } else { from };
            ranges.iter().any(|range| first_byte < range.end && end > range.start)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_with_a_byte_of_an_answer_are_learned() {
        // bytes 0..3, 3..4, 4..8 (a character of three tokens), 8..10
        let ends = [3, 4, 8, 8, 8, 10];
        let learned = |range| within(&ends, &[range]);
        assert_eq!(learned(4..8), [false, false, true, true, true, false]);
        assert_eq!(learned(3..4), [false, true, false, false, false, false]);
        assert_eq!(learned(9..10), [false, false, false, false, false, true]);
        assert_eq!(learned(2..4), [true, true, false, false, false, false]);
        assert_eq!(learned(0..10), [true; 6]);
    }
}
