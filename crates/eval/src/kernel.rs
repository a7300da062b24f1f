//! The loops over one token's slice of the vocabulary, in the widest vectors that the processor has.
//!
//! Every sum is kept in [`LANES`] partial sums that are added in a fixed order, so the result depends on the slice's
//! length and on nothing else.

use pulp::{Arch, NullaryFnOnce};

use crate::exponential::exp_of_nonpositive;

/// Partial sums per quantity.
const LANES: usize = 16;

/// Where a slice of logits peaks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Peak {
    /// The largest logit.
    pub max: f32,
    /// False if a logit is NaN or infinite; `max` then means nothing.
    pub finite: bool,
}

/// Sums over one token's slice of two models' logits.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct PairSums {
    /// Σ exp(aᵢ - max a).
    pub base: f64,
    /// Σ exp(bᵢ - max b).
    pub model: f64,
    /// Σ exp(aᵢ - max a)·(aᵢ - bᵢ).
    pub cross: f64,
}

/// Sums over one token's slice of a base model's log-probabilities and another model's logits.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct LogProbSums {
    /// Σ exp(bᵢ - max b) of all logits b.
    pub model: f64,
    /// Σ pᵢ of the probabilities that count.
    pub mass: f64,
    /// Σ pᵢ·(log pᵢ - bᵢ) of the same.
    pub cross: f64,
}

/// The largest of `logits`, and whether all are finite.
pub(crate) fn peak(logits: &[f32]) -> Peak {
    struct Op<'a>(&'a [f32]);
    impl NullaryFnOnce for Op<'_> {
        type Output = Peak;
        #[inline(always)]
        fn call(self) -> Peak {
            let (chunks, rest) = self.0.as_chunks::<{ 4 * LANES }>();
            let mut max = [f32::MIN; 4 * LANES];
            // x·0 is 0 for every finite x and NaN otherwise; NaN stays NaN under addition.
            let mut poison = [0.0_f32; 4 * LANES];
            for chunk in chunks {
                for lane in 0..4 * LANES {
                    max[lane] = if chunk[lane] > max[lane] { chunk[lane] } else { max[lane] };
                    poison[lane] += chunk[lane] * 0.0;
                }
            }
            for (lane, &x) in rest.iter().enumerate() {
                max[lane] = if x > max[lane] { x } else { max[lane] };
                poison[lane] += x * 0.0;
            }
            let max = max.iter().fold(f32::MIN, |max, &x| if x > max { x } else { max });
            Peak { max, finite: !poison.iter().sum::<f32>().is_nan() }
        }
    }
    Arch::new().dispatch(Op(logits))
}

/// Σ exp(xᵢ - max) over `logits`, none of which may exceed `max`.
pub(crate) fn exp_sum(logits: &[f32], max: f32) -> f64 {
    struct Op<'a>(&'a [f32], f64);
    impl NullaryFnOnce for Op<'_> {
        type Output = f64;
        #[inline(always)]
        fn call(self) -> f64 {
            let Op(logits, max) = self;
            let (chunks, rest) = logits.as_chunks::<LANES>();
            let mut sums = [0.0; LANES];
            for chunk in chunks {
                let exps = exp_of_nonpositive(chunk.map(|x| f64::from(x) - max));
                for lane in 0..LANES {
                    sums[lane] += exps[lane];
                }
            }
            for (sum, &x) in sums.iter_mut().zip(rest) {
                let [exp] = exp_of_nonpositive([f64::from(x) - max]);
                *sum += exp;
            }
            sums.iter().sum()
        }
    }
    Arch::new().dispatch(Op(logits, f64::from(max)))
}

/// [`PairSums`] over `base` (a) and `model` (b), of the same length, none of which may exceed its maximum.
pub(crate) fn pair_sums(base: &[f32], base_max: f32, model: &[f32], model_max: f32) -> PairSums {
    struct Op<'a> {
        base: &'a [f32],
        base_max: f64,
        model: &'a [f32],
        model_max: f64,
    }
    impl NullaryFnOnce for Op<'_> {
        type Output = PairSums;
        #[inline(always)]
        fn call(self) -> PairSums {
            let Op { base, base_max, model, model_max } = self;
            let mut base_sums = [0.0; LANES];
            let mut model_sums = [0.0; LANES];
            let mut cross = [0.0; LANES];
            let (base_chunks, base_rest) = base.as_chunks::<LANES>();
            let (model_chunks, model_rest) = model.as_chunks::<LANES>();
            for (a, b) in base_chunks.iter().zip(model_chunks) {
                let exp_a = exp_of_nonpositive(a.map(|a| f64::from(a) - base_max));
                let exp_b = exp_of_nonpositive(b.map(|b| f64::from(b) - model_max));
                for lane in 0..LANES {
                    base_sums[lane] += exp_a[lane];
                    model_sums[lane] += exp_b[lane];
                    cross[lane] += exp_a[lane] * (f64::from(a[lane]) - f64::from(b[lane]));
                }
            }
            for (lane, (&a, &b)) in base_rest.iter().zip(model_rest).enumerate() {
                let (a, b) = (f64::from(a), f64::from(b));
                let [exp_a] = exp_of_nonpositive([a - base_max]);
                let [exp_b] = exp_of_nonpositive([b - model_max]);
                base_sums[lane] += exp_a;
                model_sums[lane] += exp_b;
                cross[lane] += exp_a * (a - b);
            }
            PairSums {
                base: base_sums.iter().sum(),
                model: model_sums.iter().sum(),
                cross: cross.iter().sum(),
            }
        }
    }
    assert_eq!(base.len(), model.len(), "slices of one vocabulary range");
    Arch::new().dispatch(Op { base, base_max: f64::from(base_max), model, model_max: f64::from(model_max) })
}

/// [`LogProbSums`] over `base` (log p) and `model` (b), of the same length; of `base` counts what is above `least`. No logit may
/// exceed `model_max`, and no log p 0 by more than its rounding.
pub(crate) fn log_prob_sums(base: &[f32], least: f32, model: &[f32], model_max: f32) -> LogProbSums {
    struct Op<'a> {
        base: &'a [f32],
        least: f32,
        model: &'a [f32],
        model_max: f64,
    }
    impl NullaryFnOnce for Op<'_> {
        type Output = LogProbSums;
        #[inline(always)]
        fn call(self) -> LogProbSums {
            let Op { base, least, model, model_max } = self;
            let mut model_sums = [0.0; LANES];
            let mut mass = [0.0; LANES];
            let mut cross = [0.0; LANES];
            let (base_chunks, base_rest) = base.as_chunks::<LANES>();
            let (model_chunks, model_rest) = model.as_chunks::<LANES>();
            for (log_p, b) in base_chunks.iter().zip(model_chunks) {
                let exp_p = exp_of_nonpositive(log_p.map(f64::from));
                let exp_b = exp_of_nonpositive(b.map(|b| f64::from(b) - model_max));
                for lane in 0..LANES {
                    let p = if log_p[lane] > least { exp_p[lane] } else { 0.0 };
                    model_sums[lane] += exp_b[lane];
                    mass[lane] += p;
                    cross[lane] += p * (f64::from(log_p[lane]) - f64::from(b[lane]));
                }
            }
            for (lane, (&log_p, &b)) in base_rest.iter().zip(model_rest).enumerate() {
                let [exp_p] = exp_of_nonpositive([f64::from(log_p)]);
                let [exp_b] = exp_of_nonpositive([f64::from(b) - model_max]);
                let p = if log_p > least { exp_p } else { 0.0 };
                model_sums[lane] += exp_b;
                mass[lane] += p;
                cross[lane] += p * (f64::from(log_p) - f64::from(b));
            }
            LogProbSums { model: model_sums.iter().sum(), mass: mass.iter().sum(), cross: cross.iter().sum() }
        }
    }
    assert_eq!(base.len(), model.len(), "slices of one vocabulary range");
    Arch::new().dispatch(Op { base, least, model, model_max: f64::from(model_max) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(length: usize, scale: f32) -> Vec<f32> {
        (0..length).map(|i| scale * ((i * i) as f32 * 0.731).sin()).collect()
    }

    #[test]
    fn peak_of_every_length_is_the_largest() {
        for length in 0..300 {
            let logits: Vec<f32> = wave(length, 9.0).iter().map(|x| x - 20.0).collect();
            let largest = logits.iter().copied().fold(f32::MIN, f32::max);
            assert_eq!(peak(&logits), Peak { max: largest, finite: true }, "{length} logits");
        }
    }

    #[test]
    fn no_place_hides_a_value_that_is_not_finite() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in 0..200 {
                let mut logits = wave(200, 3.0);
                logits[at] = bad;
                assert!(!peak(&logits).finite, "{bad} at {at}");
            }
        }
    }

    #[test]
    fn sums_of_every_length_are_those_of_the_plain_loop() {
        for length in 1..100 {
            let (a, b) = (wave(length, 12.0), wave(length, 11.0));
            let (max_a, max_b) = (peak(&a).max, peak(&b).max);
            let exp = |x: f32, max: f32| (f64::from(x) - f64::from(max)).exp();
            let plain = PairSums {
                base: a.iter().map(|&x| exp(x, max_a)).sum(),
                model: b.iter().map(|&x| exp(x, max_b)).sum(),
                cross: a.iter().zip(&b).map(|(&x, &y)| exp(x, max_a) * (f64::from(x) - f64::from(y))).sum(),
            };
            let found = pair_sums(&a, max_a, &b, max_b);
            assert!((found.base - plain.base).abs() < 1e-12 * plain.base);
            assert!((found.model - plain.model).abs() < 1e-12 * plain.model);
            assert!((found.cross - plain.cross).abs() < 1e-11 * plain.base);
            assert_eq!(exp_sum(&a, max_a).to_bits(), found.base.to_bits());
        }
    }

    #[test]
    fn sums_over_log_probabilities_of_every_length_are_those_of_the_plain_loop() {
        for length in 1..100 {
            let log_ps: Vec<f32> = wave(length, 11.0).iter().map(|x| x - 11.0).collect();
            let b = wave(length, 14.0).into_iter().rev().collect::<Vec<f32>>();
            let max = peak(&b).max;
            let counted = log_ps.iter().zip(&b).map(|(&log_p, &b)| (f64::from(log_p), f64::from(b)));
            let counted: Vec<(f64, f64)> = counted.filter(|(log_p, _)| *log_p > -16.0).collect();
            let found = log_prob_sums(&log_ps, -16.0, &b, max);
            let mass: f64 = counted.iter().map(|(log_p, _)| log_p.exp()).sum();
            let cross: f64 = counted.iter().map(|(log_p, b)| log_p.exp() * (log_p - b)).sum();
            assert!((found.mass - mass).abs() <= 1e-12 * mass);
            assert!((found.cross - cross).abs() <= 1e-11 * mass);
            assert_eq!(found.model.to_bits(), exp_sum(&b, max).to_bits());
        }
    }
}
