//! The likeliest tokens of many positions.

use std::cmp::Ordering;

use rayon::prelude::*;

use crate::head::HeadInput;
use crate::top_k::TopK;

/// Logits that are in memory at a time, at most (and of 32 tokens at least).
const LOGITS: usize = 2 << 20;

/// What a teacher predicts at some positions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CachedRows {
    /// Tokens of a position.
    pub(super) k: usize,
    /// `[positions, k]`, the likeliest first.
    pub(super) ids: Vec<u32>,
    /// Logarithms of their probabilities, `[positions, k]`.
    pub(super) log_probs: Vec<f32>,
    /// That of the probability of all others, `[positions]`.
    pub(super) log_rest: Vec<f32>,
    /// That of the probability of the token that comes, `[positions]`, where that is kept; else none.
    pub(super) log_labels: Vec<f32>,
}

impl CachedRows {
    /// The `k` likeliest of the first `vocab` tokens by softmax(logits / τ) at every position, of equally likely ones those with the lower
    /// ids; all of them where there are no more than `k`.
    ///
    /// # Panics
    /// If slices do not have the shapes they are said to have.
    pub fn of(teacher: HeadInput<'_>, vocab: usize, k: usize, temperature: f32) -> Self {
        Self::with_labels(teacher, &[], vocab, k, temperature)
    }

    /// The same, and what the model thinks of the tokens that come, one a position; or of none.
    ///
    /// # Panics
    /// As [`CachedRows::of`].
    pub fn with_labels(
        teacher: HeadInput<'_>,
        labels: &[u32],
        vocab: usize,
        k: usize,
        temperature: f32,
    ) -> Self {
        let (tokens, k) = (teacher.hidden.len() / teacher.width, k.min(vocab));
        assert!(labels.is_empty() || labels.len() == tokens, "a label for every position");
        let mut all = Self { k, ..Self::default() };
        let piece = (LOGITS / vocab.max(1)).max(32);
        for first in (0..tokens).step_by(piece) {
            let logits = teacher.logits(vocab, first..tokens.min(first + piece));
            let found: Vec<Likeliest> = logits
                .par_chunks_exact(vocab)
                .enumerate()
                .map(|(n, logits)| likeliest(logits, labels.get(first + n).copied(), k, temperature))
                .collect();
            for Likeliest { ids, log_probs, log_rest, log_label } in found {
                all.ids.extend(ids);
                all.log_probs.extend(log_probs);
                all.log_rest.push(log_rest);
                all.log_labels.extend(log_label);
            }
        }
        all
    }

    /// One position's.
    pub fn token(&self, position: usize) -> TopK<'_> {
        let at = position * self.k..(position + 1) * self.k;
        TopK { ids: &self.ids[at.clone()], log_probs: &self.log_probs[at], log_rest: self.log_rest[position] }
    }

    /// The logarithms of the probabilities of the tokens that come, where they were kept; else none.
    pub fn log_labels(&self) -> &[f32] {
        &self.log_labels
    }

    /// Number of positions.
    pub fn positions(&self) -> usize {
        self.log_rest.len()
    }

    /// Adds others of the same k.
    pub(super) fn extend(&mut self, other: Self) {
        self.k = other.k;
        self.ids.extend(other.ids);
        self.log_probs.extend(other.log_probs);
        self.log_rest.extend(other.log_rest);
        self.log_labels.extend(other.log_labels);
    }
}

/// One position's.
struct Likeliest {
    ids: Vec<u32>,
    log_probs: Vec<f32>,
    log_rest: f32,
    log_label: Option<f32>,
}

fn likeliest(logits: &[f32], label: Option<u32>, k: usize, temperature: f32) -> Likeliest {
    let order = |a: &u32, b: &u32| -> Ordering {
        logits[*b as usize].total_cmp(&logits[*a as usize]).then_with(|| a.cmp(b))
    };
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    if k < ids.len() {
        ids.select_nth_unstable_by(k, order);
    }
    let (top, others) = ids.split_at_mut(k);
    top.sort_unstable_by(order);
    // An order of its own, so that the sum does not depend on how the others were left.
    others.sort_unstable();
    let maximum = top.first().map_or(0.0, |&id| f64::from(logits[id as usize]));
    let scaled = |id: u32| (f64::from(logits[id as usize]) - maximum) / f64::from(temperature);
    let rest: f64 = others.iter().map(|&id| scaled(id).exp()).sum();
    let log_total = (rest + top.iter().map(|&id| scaled(id).exp()).sum::<f64>()).ln();
    let log = |id: u32| (scaled(id) - log_total) as f32;
    Likeliest {
        ids: top.to_vec(),
        log_probs: top.iter().map(|&id| log(id)).collect(),
        log_rest: (rest.ln() - log_total) as f32,
        log_label: label.map(log),
    }
}

#[cfg(test)]
mod tests {
    use slmc_matmul::Precision;
    use slmc_model::ops::LogitTransform;

    use super::*;

    #[test]
    fn the_likeliest_come_first_and_all_is_one() {
        let (hidden, weight) = ([1.0, 2.0], [0.5, 3.0, 1.0, 3.0, -2.0]);
        let teacher = HeadInput {
            hidden: &hidden,
            weight: &weight,
            width: 1,
            logits: LogitTransform::default(),
            precision: Precision::F32,
        };
        let rows = CachedRows::of(teacher, 5, 2, 2.0);
        assert_eq!((rows.positions(), rows.token(0).ids, rows.token(1).ids), (2, &[1, 3][..], &[1, 3][..]));
        for position in 0..2 {
            let top = rows.token(position);
            let sum: f32 = top.log_probs.iter().map(|log| log.exp()).sum::<f32>() + top.log_rest.exp();
            assert!((sum - 1.0).abs() < 1e-6);
        }
        let exps = weight.map(|w: f32| f64::from(w / 2.0).exp());
        let expected = (exps[1] / exps.iter().sum::<f64>()).ln();
        assert!((f64::from(rows.token(0).log_probs[0]) - expected).abs() < 1e-6);
        let whole = CachedRows::of(teacher, 5, 9, 1.0);
        assert_eq!((whole.token(0).ids, whole.token(0).log_rest), (&[1, 3, 2, 0, 4][..], f32::NEG_INFINITY));
        // of the tokens that come the probability is known, whether they are among the likeliest or not
        let labelled = CachedRows::with_labels(teacher, &[2, 4], 5, 1, 1.0);
        let sums =
            [1.0, 2.0].map(|scale| weight.map(|w: f32| f64::from(scale * w).exp()).iter().sum::<f64>().ln());
        let expected = [1.0 - sums[0], -4.0 - sums[1]];
        for (found, expected) in labelled.log_labels().iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-6, "{found} {expected}");
        }
        assert!(rows.log_labels().is_empty());
    }
}
