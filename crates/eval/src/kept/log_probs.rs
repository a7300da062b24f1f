//! A model's logits against the logarithms of a base model's probabilities, as far as these were kept.
//!
//! With log pᵢ as kept and log qᵢ = xᵢ − log Z, KL = Σ pᵢ·(log pᵢ − log qᵢ) = Σ pᵢ·(log pᵢ − xᵢ) + log Z·Σ pᵢ. As llama-perplexity has
//! it (`log_softmax` with a `kl_divergence_result` in llama.cpp's `tools/perplexity/perplexity.cpp`): tokens that the base gives e⁻¹⁶ or
//! less are left out, and the pᵢ are not made to add up to 1, so that the rounding of log p can make a divergence hardly below 0.

use crate::accumulate::Softmax;
use crate::kernel;
use crate::leaders::Leaders;
use crate::scores::{Drift, Side};

/// The logarithm of a probability that is left out, and so is all below.
pub(crate) const LEFT_OUT: f32 = -16.0;

/// The running sums at one token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AgainstLogProbs {
    model: Softmax,
    /// Σ pᵢ.
    mass: f64,
    /// Σ pᵢ·(log pᵢ − xᵢ).
    cross: f64,
    base_top: Leaders<1>,
    model_top: Leaders<5>,
    /// The logarithm of the probability of the token that came, once its slice has been seen.
    log_target: f32,
}

impl AgainstLogProbs {
    pub const EMPTY: Self = Self {
        model: Softmax::EMPTY,
        mass: 0.0,
        cross: 0.0,
        base_top: Leaders::EMPTY,
        model_top: Leaders::EMPTY,
        log_target: f32::NAN,
    };

    /// Adds a slice of the vocabulary, `base` of logarithms of probabilities.
    ///
    /// # Errors
    /// The side that is not finite.
    pub fn add(
        &mut self,
        target: usize,
        first_entry: usize,
        base: &[f32],
        model: &[f32],
    ) -> Result<(), Side> {
        let peak = kernel::peak(base);
        if !peak.finite {
            return Err(Side::Base);
        }
        self.base_top.meet(base, peak.max, first_entry);
        if let Some(&log_p) = target.checked_sub(first_entry).and_then(|at| base.get(at)) {
            self.log_target = log_p;
        }
        let met = self.model.meet(model, first_entry, target).ok_or(Side::Model)?;
        self.model_top.meet(model, met.peak, first_entry);
        let sums = kernel::log_prob_sums(base, LEFT_OUT, model, self.model.max);
        self.model.sum += sums.model;
        self.mass += sums.mass;
        self.cross += sums.cross;
        Ok(())
    }

    /// -log q of the token that came.
    pub fn nll(&self) -> f64 {
        self.model.nll()
    }

    /// After the last slice.
    pub fn drift(&self) -> Drift {
        let kl = self.cross + self.mass * self.model.log_partition();
        Drift::new(self.nll(), -f64::from(self.log_target), kl, self.base_top.top(), &self.model_top)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::LEFT_OUT;
    use crate::accumulate::Accumulator;

    /// What llama-perplexity makes of a row of log-probabilities and one of logits: −log q of the target, −log p of it, the
    /// divergence, and whether both have the same likeliest token.
    fn plain(base: &[f32], logits: &[f32], target: usize) -> (f64, f64, f64, bool) {
        let first_of_largest = |row: &[f32]| {
            let mut largest = 0;
            (1..row.len()).for_each(|i| largest = if row[i] > row[largest] { i } else { largest });
            largest
        };
        let max = f64::from(logits[first_of_largest(logits)]);
        let sum: f64 = logits.iter().map(|&x| (f64::from(x) - max).exp()).sum();
        let log_q = |i: usize| f64::from(logits[i]) - max - sum.ln();
        let mut kl = 0.0;
        for (i, &log_p) in base.iter().enumerate() {
            if log_p > -16.0 {
                let log_p = f64::from(log_p);
                kl += log_p.exp() * (log_p - log_q(i));
            }
        }
        let same = first_of_largest(base) == first_of_largest(logits);
        (-log_q(target), -f64::from(base[target]), kl, same)
    }

    proptest! {
        /// In slices of any width, of probabilities that do not add up to 1 and some of which are left out.
        #[test]
        fn a_divergence_is_that_of_llama_perplexitys_loop(
            rows in proptest::collection::vec((-24.0f32..0.0, -30.0f32..30.0), 1..150),
            width in 1usize..60,
            target in 0usize..150,
        ) {
            let (base, logits): (Vec<f32>, Vec<f32>) = rows.into_iter().unzip();
            let target = target % base.len();
            let mut accumulator = Accumulator::against_log_probs(vec![target as u32]);
            for (base, logits) in base.chunks(width).zip(logits.chunks(width)) {
                accumulator.add(base.len(), Some(base), logits).unwrap();
            }
            let scores = accumulator.finish();
            let drift = scores.drift.as_ref().unwrap()[0];
            let (nll, base_nll, kl, same_top) = plain(&base, &logits, target);
            let counted: f64 = base.iter().filter(|log_p| **log_p > LEFT_OUT).map(|log_p| f64::from(*log_p).exp()).sum();
            prop_assert!((scores.nll[0] - nll).abs() < 1e-11);
            prop_assert_eq!(drift.base_nll, base_nll);
            prop_assert!((drift.kl - kl).abs() <= 1e-10 * (1.0 + counted), "{} {kl}", drift.kl);
            prop_assert!((drift.delta_p - ((-nll).exp() - (-base_nll).exp())).abs() < 1e-11);
            prop_assert_eq!(drift.same_top, same_top);
        }
    }

    #[test]
    fn what_the_base_gives_hardly_a_chance_is_left_out_and_nothing_is_clamped() {
        let kl = |base: &[f32], logits: &[f32]| {
            let mut accumulator = Accumulator::against_log_probs(vec![0]);
            accumulator.add(base.len(), Some(base), logits).unwrap();
            accumulator.finish().drift.unwrap()[0].kl
        };
        // two tokens of ln ½, one at the bound: it adds nothing, though the model finds it impossible
        let half = 0.5f32.ln();
        assert!((kl(&[half, half, -16.0], &[0.0, 0.0, -1e4])).abs() < 1e-7);
        assert!(kl(&[half, half, -15.999], &[0.0, 0.0, -1e4]) > 1e-4);
        // probabilities that were rounded down
        assert!(kl(&[half - 1e-4, half - 1e-4], &[0.0, 0.0]) < -5e-5);
    }

    #[test]
    fn a_side_that_is_not_finite_is_found() {
        let mut accumulator = Accumulator::against_log_probs(vec![0]);
        let error = accumulator.add(2, Some(&[-1.0, f32::NAN]), &[0.0, 1.0]).unwrap_err();
        assert_eq!(error.side, crate::Side::Base);
        let mut accumulator = Accumulator::against_log_probs(vec![0]);
        let error = accumulator.add(2, Some(&[-1.0, -1.0]), &[0.0, f32::INFINITY]).unwrap_err();
        assert_eq!(error.side, crate::Side::Model);
    }
}
