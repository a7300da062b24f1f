//! Of every scored position a base model's likeliest tokens, and the probability of all others together.
//!
//! The divergence is that between the distributions over these tokens and "another one". By the log-sum inequality it is at most that
//! between the whole distributions, and it is the same where every token is kept (Cover and Thomas, "Elements of Information Theory",
//! section 2.7).

use std::error::Error;
use std::ops::Range;

use rayon::prelude::*;

use super::KeptBase;
use crate::accumulate::Softmax;
use crate::kernel;
use crate::leaders::Leaders;
use crate::scores::{Drift, Scores};

/// The least share of a softmax that is told from none: below it lies what is lost in the sum.
const LEAST: f64 = f64::EPSILON;

/// What a base model predicts at some positions, as probabilities over the first tokens of its vocabulary.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeptPredictions {
    /// Tokens that are kept of a position.
    pub k: usize,
    /// The tokens, `[positions, k]`, the likeliest first.
    pub ids: Vec<u32>,
    /// The logarithms of their probabilities, `[positions, k]`, nats.
    pub log_probs: Vec<f32>,
    /// That of the probability of all other tokens together, `[positions]`; −∞ for none.
    pub log_rest: Vec<f32>,
    /// That of the probability of the token that came, `[positions]`.
    pub log_target: Vec<f32>,
}

/// Where they come from.
pub trait TopKSource {
    /// What they are of.
    fn about(&self) -> KeptBase;

    /// Those at the scored positions of some windows, one window after another.
    ///
    /// # Errors
    /// They cannot be read.
    fn read(&self, windows: Range<usize>) -> Result<KeptPredictions, Box<dyn Error + Send + Sync>>;
}

/// Accumulates a model's logits over the tokens that predictions were kept of.
#[derive(Debug)]
pub(crate) struct AgainstKept {
    base: KeptPredictions,
    states: Vec<State>,
    /// The model's logits of the tokens that were kept, `[positions, k]`.
    logits: Vec<f32>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    model: Softmax,
    top: Leaders<5>,
}

impl AgainstKept {
    /// # Panics
    /// If there are not predictions for `positions` positions.
    pub fn new(base: KeptPredictions, positions: usize) -> Self {
        let KeptPredictions { k, ids, log_probs, log_rest, log_target } = &base;
        assert!(*k > 0, "predictions of no token");
        assert_eq!([ids.len(), log_probs.len()], [positions * k; 2], "k tokens a position");
        assert_eq!([log_rest.len(), log_target.len()], [positions; 2], "one prediction a position");
        let (logits, empty) =
            (vec![f32::NAN; positions * k], State { model: Softmax::EMPTY, top: Leaders::EMPTY });
        Self { states: vec![empty; positions], logits, base }
    }

    /// Adds the next `width` entries of every position's logits; the first position with one that is not finite.
    pub fn add(&mut self, targets: &[u32], width: usize, first_entry: usize, model: &[f32]) -> Option<usize> {
        let (k, entries) = (self.base.k, first_entry..first_entry + width);
        (self.states.par_iter_mut(), self.logits.par_chunks_mut(k), self.base.ids.par_chunks(k))
            .into_par_iter()
            .zip(targets.par_iter().zip(model.par_chunks(width)))
            .map(|((state, kept, ids), (&target, logits))| {
                let met = state.model.meet(logits, first_entry, target as usize)?;
                state.top.meet(logits, met.peak, first_entry);
                state.model.sum += kernel::exp_sum(logits, state.model.max);
                for (kept, &id) in
                    kept.iter_mut().zip(ids).filter(|(_, id)| entries.contains(&(**id as usize)))
                {
                    *kept = logits[id as usize - first_entry];
                }
                Some(())
            })
            .enumerate()
            .find_map_first(|(token, met)| met.is_none().then_some(token))
    }

    /// The scores, after the last entry.
    pub fn finish(self) -> Scores {
        let rows = (0..self.states.len()).into_par_iter().map(|position| self.drift(position)).collect();
        Scores { nll: self.states.iter().map(|state| state.model.nll()).collect(), drift: Some(rows) }
    }

    fn drift(&self, position: usize) -> Drift {
        let (base, State { model, top }) = (&self.base, &self.states[position]);
        let of = position * base.k..(position + 1) * base.k;
        let (mut kl, mut share) = (0.0, 0.0);
        for (&log_p, &logit) in base.log_probs[of.clone()].iter().zip(&self.logits[of.clone()]) {
            let (log_p, log_q) = (f64::from(log_p), f64::from(logit) - model.log_partition());
            kl += log_p.exp() * (log_p - log_q);
            share += log_q.exp();
        }
        let log_rest = f64::from(base.log_rest[position]);
        if log_rest > f64::NEG_INFINITY {
            kl += log_rest.exp() * (log_rest - (1.0 - share).max(LEAST).ln());
        }
        let base_nll = -f64::from(base.log_target[position]);
        // As for two models; and logarithms in f32 do not add up to 1 in their last bits.
        Drift::new(model.nll(), base_nll, kl.max(0.0), base.ids[of.start] as usize, top)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::accumulate::Accumulator;

    /// The `k` likeliest tokens of a softmax, as they are kept.
    fn keep(logits: &[f32], k: usize, target: u32) -> KeptPredictions {
        let max = logits.iter().copied().fold(f32::MIN, f32::max);
        let sum: f64 = logits.iter().map(|&x| f64::from(x - max).exp()).sum();
        let log = |id: u32| f64::from(logits[id as usize] - max) - sum.ln();
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
        let rest: f64 = order[k..].iter().map(|&id| log(id).exp()).sum();
        KeptPredictions {
            k,
            ids: order[..k].to_vec(),
            log_probs: order[..k].iter().map(|&id| log(id) as f32).collect(),
            log_rest: vec![rest.ln() as f32],
            log_target: vec![log(target) as f32],
        }
    }

    proptest! {
        /// Of all tokens the divergence is that of the pair accumulator; of fewer it is less, and the less the fewer; everything else is
        /// known whatever is kept.
        #[test]
        fn kept_predictions_bound_the_divergence(
            base in proptest::collection::vec(-8.0f32..8.0, 3..120),
            change in proptest::collection::vec(-3.0f32..3.0, 120),
            width in 1usize..50,
            target in 0usize..120,
        ) {
            let model: Vec<f32> = base.iter().zip(&change).map(|(x, y)| x + y).collect();
            let (vocab, target) = (base.len(), (target % base.len()) as u32);
            let mut pair = Accumulator::pair(vec![target]);
            pair.add(vocab, Some(&base), &model).unwrap();
            let whole = pair.finish();
            let exact = whole.drift.as_ref().unwrap()[0];
            let mut before = f64::INFINITY;
            for k in [vocab, vocab - 1, vocab / 2, 1].into_iter().filter(|&k| k > 0) {
                let mut kept = Accumulator::against_top_k(vec![target], keep(&base, k, target));
                for slice in model.chunks(width) {
                    kept.add(slice.len(), None, slice).unwrap();
                }
                let scores = kept.finish();
                let drift = scores.drift.as_ref().unwrap()[0];
                prop_assert!((scores.nll[0] - whole.nll[0]).abs() < 1e-9);
                prop_assert!((drift.base_nll - exact.base_nll).abs() < 2e-6);
                prop_assert!((drift.delta_p - exact.delta_p).abs() < 2e-6);
                prop_assert_eq!((drift.same_top, drift.in_top5), (exact.same_top, exact.in_top5));
                prop_assert!(drift.kl <= before + 5e-6, "{k}: {} {before}", drift.kl);
                if k + 1 >= vocab {
                    prop_assert!((drift.kl - exact.kl).abs() < 5e-6, "{k}: {} {}", drift.kl, exact.kl);
                }
                before = drift.kl;
            }
        }
    }

    #[test]
    fn a_logit_that_is_not_finite_is_found() {
        let base = keep(&[1.0, 2.0, 3.0], 2, 0);
        let mut kept = Accumulator::against_top_k(vec![0], base);
        kept.add(2, None, &[0.0, 1.0]).unwrap();
        let error = kept.add(1, None, &[f32::NAN]).unwrap_err();
        assert_eq!((error.token, error.first_entry), (0, 2));
    }
}
