//! Scores of many tokens, from logits that arrive a slice of the vocabulary at a time.
//!
//! The logits of a window never exist whole: 256 scored tokens of a 128k vocabulary are 134 MB per model. A slice of them
//! does, `[tokens, width]`, and per token what is kept is the running maximum m, Σ exp(x - m) and the target's logit;
//! of two models, also the base's most probable token and the other's five.
//! When a slice raises the maximum, the sums so far are rescaled (the online softmax of Milakov and Gimelshein,
//! arXiv 1805.02867, section 3). With a base model a and a compressed model b, one more sum is kept, C = Σ exp(aᵢ - mₐ)·(aᵢ - bᵢ),
//! so that with p = softmax(a), q = softmax(b) and log Z = m + log Σ exp(x - m)
//!
//! KL(p ‖ q) = Σ pᵢ·(log pᵢ - log qᵢ) = C / Σ exp(aᵢ - mₐ) - (log Zₐ - log Z_b).
//!
//! Predictions of a base model that were kept take the place of its logits as [`kept`](crate::kept) says.

use rayon::prelude::*;
use thiserror::Error;

use crate::kept::KeptPredictions;
use crate::kept::log_probs::AgainstLogProbs;
use crate::kept::top_k::AgainstKept;
use crate::kernel::{self, Peak};
use crate::leaders::Leaders;
use crate::scores::{Drift, Scores, Side};

/// Tokens a task takes at a time; only scheduling depends on it.
const GRAIN: usize = 4;

/// A logit that is NaN or infinite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "a logit of token {token} from the {side} model is NaN or infinite (vocabulary entries from {first_entry})"
)]
pub struct NonFiniteLogit {
    /// The model whose logit it is.
    pub side: Side,
    /// Index of the scored token among those accumulated.
    pub token: usize,
    /// First vocabulary entry of the slice it is in.
    pub first_entry: usize,
}

/// One model's running softmax at one token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Softmax {
    /// The largest logit so far.
    pub max: f32,
    /// Σ exp(x - max) so far.
    pub sum: f64,
    /// The logit of the token that came, once its slice has been seen.
    target: f32,
}

/// What a slice of logits changes about the sums over those before.
pub(crate) struct Met {
    /// The slice's largest logit.
    pub peak: f32,
    /// The factor by which sums over earlier slices shrink.
    shrink: f64,
}

impl Softmax {
    pub const EMPTY: Self = Self { max: f32::MIN, sum: 0.0, target: f32::NAN };

    /// Takes notice of a slice before its exponentials are summed; `None` if a logit is not finite.
    pub fn meet(&mut self, logits: &[f32], first_entry: usize, target: usize) -> Option<Met> {
        let Peak { max: peak, finite } = kernel::peak(logits);
        if !finite {
            return None;
        }
        if let Some(&logit) = target.checked_sub(first_entry).and_then(|at| logits.get(at)) {
            self.target = logit;
        }
        if peak <= self.max {
            return Some(Met { peak, shrink: 1.0 });
        }
        let shrink = (f64::from(self.max) - f64::from(peak)).exp();
        self.max = peak;
        self.sum *= shrink;
        Some(Met { peak, shrink })
    }

    /// log Σ exp(xᵢ) over all logits seen.
    pub fn log_partition(&self) -> f64 {
        f64::from(self.max) + self.sum.ln()
    }

    /// -log softmax(x) at the target.
    pub fn nll(&self) -> f64 {
        self.log_partition() - f64::from(self.target)
    }
}

/// Both models' running softmax at one token.
#[derive(Debug, Clone, Copy)]
struct Pair {
    base: Softmax,
    model: Softmax,
    cross: f64,
    base_top: Leaders<1>,
    model_top: Leaders<5>,
}

/// Accumulates the logits of one model, or of a base model and a compressed one, over the same tokens.
#[derive(Debug)]
pub struct Accumulator {
    targets: Vec<u32>,
    states: States,
    next_entry: usize,
}

#[derive(Debug)]
enum States {
    Single(Vec<Softmax>),
    Pair(Vec<Pair>),
    TopK(AgainstKept),
    LogProbs(Vec<AgainstLogProbs>),
}

impl Accumulator {
    /// For one model's logits; `targets` are the tokens that came, one per scored position.
    pub fn single(targets: Vec<u32>) -> Self {
        let states = States::Single(vec![Softmax::EMPTY; targets.len()]);
        Self { targets, states, next_entry: 0 }
    }

    /// For a base model's and a compressed model's logits.
    pub fn pair(targets: Vec<u32>) -> Self {
        let empty = Pair {
            base: Softmax::EMPTY,
            model: Softmax::EMPTY,
            cross: 0.0,
            base_top: Leaders::EMPTY,
            model_top: Leaders::EMPTY,
        };
        let states = States::Pair(vec![empty; targets.len()]);
        Self { targets, states, next_entry: 0 }
    }

    /// For the logits of a compressed model alone, against what was kept of a base model's predictions of the same tokens.
    ///
    /// # Panics
    /// If predictions are not of as many positions as there are targets.
    pub fn against_top_k(targets: Vec<u32>, base: KeptPredictions) -> Self {
        let states = States::TopK(AgainstKept::new(base, targets.len()));
        Self { targets, states, next_entry: 0 }
    }

    /// For the logits of a compressed model, against the logarithms of a base model's probabilities, which stand in the place of its
    /// logits.
    pub fn against_log_probs(targets: Vec<u32>) -> Self {
        let states = States::LogProbs(vec![AgainstLogProbs::EMPTY; targets.len()]);
        Self { targets, states, next_entry: 0 }
    }

    /// Vocabulary entries seen so far.
    pub fn entries(&self) -> usize {
        self.next_entry
    }

    /// Adds the next `width` vocabulary entries of every token: `model` is `[tokens, width]`, and so is `base`, which is
    /// given if and only if a base model's are accumulated, too. Tokens are spread over rayon's threads; the result does not
    /// depend on how.
    ///
    /// # Errors
    /// NaN or infinite logits; of several, the first token's.
    ///
    /// # Panics
    /// If a slice has another length, or `base` is given or missing against the kind of accumulator.
    pub fn add(&mut self, width: usize, base: Option<&[f32]>, model: &[f32]) -> Result<(), NonFiniteLogit> {
        let first_entry = self.next_entry;
        let length = self.targets.len() * width;
        assert!(width > 0, "an empty slice of the vocabulary");
        assert_eq!(model.len(), length, "logits are [tokens, width]");
        assert!(base.is_none_or(|base| base.len() == length), "base logits are [tokens, width]");
        let failed = match (&mut self.states, base) {
            (States::Single(states), None) => (states.par_iter_mut(), &self.targets, model.par_chunks(width))
                .into_par_iter()
                .with_min_len(GRAIN)
                .map(|(state, &target, logits)| add_single(state, target as usize, first_entry, logits))
                .enumerate()
                .find_map_first(|(token, added)| added.err().map(|side| (token, side))),
            (States::Pair(states), Some(base)) => {
                add_beside(states, &self.targets, width, base, model, |pair, target, base, model| {
                    add_pair(pair, target, first_entry, base, model)
                })
            }
            (States::LogProbs(states), Some(base)) => {
                add_beside(states, &self.targets, width, base, model, |state, target, base, model| {
                    state.add(target, first_entry, base, model)
                })
            }
            (States::TopK(kept), None) => {
                kept.add(&self.targets, width, first_entry, model).map(|token| (token, Side::Model))
            }
            (States::Single(_) | States::TopK(_), Some(_)) => {
                panic!("base logits given to an accumulator of one model")
            }
            (States::Pair(_) | States::LogProbs(_), None) => panic!("base logits missing"),
        };
        self.next_entry += width;
        match failed {
            Some((token, side)) => Err(NonFiniteLogit { side, token, first_entry }),
            None => Ok(()),
        }
    }

    /// The scores of every token, after the last slice.
    ///
    /// # Panics
    /// If a target lies beyond the vocabulary entries that were added.
    pub fn finish(self) -> Scores {
        let entries = self.next_entry;
        assert!(self.targets.iter().all(|&target| (target as usize) < entries), "a target never seen");
        match self.states {
            States::Single(states) => Scores { nll: states.iter().map(Softmax::nll).collect(), drift: None },
            States::Pair(states) => Scores {
                nll: states.iter().map(|pair| pair.model.nll()).collect(),
                drift: Some(states.iter().map(Pair::drift).collect()),
            },
            States::TopK(kept) => kept.finish(),
            States::LogProbs(states) => Scores {
                nll: states.iter().map(AgainstLogProbs::nll).collect(),
                drift: Some(states.iter().map(AgainstLogProbs::drift).collect()),
            },
        }
    }
}

impl Pair {
    fn drift(&self) -> Drift {
        let (base, model) = (&self.base, &self.model);
        let kl = self.cross / base.sum - (base.log_partition() - model.log_partition());
        // KL is never negative; a rounding error of equal distributions can be.
        Drift::new(model.nll(), base.nll(), kl.max(0.0), self.base_top.top(), &self.model_top)
    }
}

/// Adds a slice of every token's logits beside the base's by `add`, which is told the target; the first token that it fails for.
fn add_beside<S: Send>(
    states: &mut [S],
    targets: &[u32],
    width: usize,
    base: &[f32],
    model: &[f32],
    add: impl Fn(&mut S, usize, &[f32], &[f32]) -> Result<(), Side> + Sync,
) -> Option<(usize, Side)> {
    (states.par_iter_mut(), targets, base.par_chunks(width), model.par_chunks(width))
        .into_par_iter()
        .with_min_len(GRAIN)
        .map(|(state, &target, base, model)| add(state, target as usize, base, model))
        .enumerate()
        .find_map_first(|(token, added)| added.err().map(|side| (token, side)))
}

fn add_single(state: &mut Softmax, target: usize, first_entry: usize, logits: &[f32]) -> Result<(), Side> {
    state.meet(logits, first_entry, target).ok_or(Side::Model)?;
    state.sum += kernel::exp_sum(logits, state.max);
    Ok(())
}

fn add_pair(
    state: &mut Pair,
    target: usize,
    first_entry: usize,
    base: &[f32],
    model: &[f32],
) -> Result<(), Side> {
    let met = state.base.meet(base, first_entry, target).ok_or(Side::Base)?;
    state.cross *= met.shrink;
    state.base_top.meet(base, met.peak, first_entry);
    let met = state.model.meet(model, first_entry, target).ok_or(Side::Model)?;
    state.model_top.meet(model, met.peak, first_entry);
    let sums = kernel::pair_sums(base, state.base.max, model, state.model.max);
    state.base.sum += sums.base;
    state.model.sum += sums.model;
    state.cross += sums.cross;
    Ok(())
}

#[cfg(test)]
#[path = "accumulate_tests.rs"]
mod tests;
