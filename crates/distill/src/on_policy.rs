//! Sequences that the student writes itself, for the teacher to judge (Agarwal et al. 2023, arXiv:2306.13649, algorithm 1).
//!
//! What a student says when it is used is not what it was trained on; there its own mistakes lead it on. With the probability λ a step is
//! trained on sequences whose beginnings are the text's and whose rest the student has sampled, at temperature 1. They have no right
//! answers, so that the divergence from the teacher alone is their loss.

use fastrand::Rng;
use slmc_model::{Device, ModelError, Sampler, Sampling, Session, WeightSource};

use crate::sequence::{Document, Sequence};

/// The share of a text that the student goes on from.
const PROMPT: usize = 4;

/// Whether step `step` is one of the student's own.
pub fn is_on_policy(lambda: f64, seed: u64, step: u64) -> bool {
    // Steps and seeds are small numbers that lie close together.
    let mixed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ step.wrapping_mul(0xD1B5_4A32_D192_ED03) ^ 0x6F6E;
    lambda > 0.0 && Rng::with_seed(mixed).f64() < lambda
}

/// For every sequence one of the same length: the beginning of its first document (of a conversation all before the first answer, else a
/// quarter), gone on with by the student up to the document's length, or to one of the tokens that end a text. The rest is filling.
///
/// # Errors
/// A student that cannot be run.
pub fn write(
    student: &dyn WeightSource,
    sequences: &[&Sequence],
    ends: &[u32],
    seed: u64,
) -> Result<Vec<Sequence>, ModelError> {
    let positions = sequences.iter().map(|sequence| sequence.tokens.len()).max().unwrap_or(0);
    // Token by token there is nothing to win from another device.
    let mut session = Session::new(student, positions.max(1), Device::Cpu)?;
    let written = sequences.iter().enumerate().map(|(n, sequence)| {
        let length = sequence.documents.get(1).copied().unwrap_or(sequence.tokens.len());
        let prompt = prompt(sequence, length);
        session.truncate(0);
        let mut tokens = sequence.tokens[..prompt].to_vec();
        let mut sampler = Sampler::new(Sampling {
            temperature: 1.0,
            seed: seed.wrapping_add(n as u64),
            ..Sampling::default()
        });
        let mut logits = session.read(&tokens)?;
        loop {
            let token = sampler.choose(&logits, &[]);
            tokens.push(token);
            if tokens.len() >= length || ends.contains(&token) {
                break;
            }
            logits = session.read(&[token])?;
        }
        let learned = (0..tokens.len()).map(|at| at >= prompt).collect();
        Ok(Sequence::alone(&Document { tokens, learned: Some(learned) }, sequence.tokens.len()))
    });
    written.collect()
}

/// Tokens that the student goes on from: one at least, and fewer than all.
fn prompt(sequence: &Sequence, length: usize) -> usize {
    let labels = &sequence.labels[..length];
    let unlearned = labels.iter().take_while(|label| label.is_none()).count();
    let prompt = if unlearned > 0 { unlearned + 1 } else { length / PROMPT };
    prompt.clamp(1, length.saturating_sub(1).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_chosen_by_their_number() {
        let count = |lambda| (0..2000).filter(|&step| is_on_policy(lambda, 7, step)).count();
        assert_eq!((count(0.0), count(1.0)), (0, 2000));
        assert!((900..1100).contains(&count(0.5)), "{}", count(0.5));
        assert_ne!(
            (0..64).map(|step| is_on_policy(0.5, 1, step)).collect::<Vec<_>>(),
            (0..64).map(|step| is_on_policy(0.5, 2, step)).collect::<Vec<_>>()
        );
    }

    #[test]
    fn prompts_end_where_answers_begin() {
        let text: Sequence = (1..=20).collect::<Vec<u32>>().into();
        assert_eq!(prompt(&text, 20), 5);
        let chat = Document { tokens: (1..=9).collect(), learned: Some((0..9).map(|n| n >= 4).collect()) };
        let chat = Sequence::alone(&chat, 12);
        assert_eq!((prompt(&chat, 9), chat.labels[3]), (4, Some(5)));
    }
}
