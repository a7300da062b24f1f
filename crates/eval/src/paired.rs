//! Two models on the same items: what each got right that the other did not.
//!
//! Items that both get right, or both wrong, say nothing of a difference, so everything here rests on those that flipped.

use serde::Serialize;
use statrs::function::beta::beta_reg;
use statrs::function::erf::erfc_inv;
use statrs::function::factorial::ln_binomial;

use crate::gate::{Interval, interval};

/// Most items that [`Flips::items_needed`] will ask for.
const MOST_ITEMS: u64 = 1 << 30;

/// How many items each of two models got right and wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Flips {
    /// Right by both.
    pub both: u64,
    /// Right by the model, wrong by the base.
    pub gained: u64,
    /// Wrong by the model, right by the base.
    pub lost: u64,
    /// Wrong by both.
    pub neither: u64,
}

impl Flips {
    /// Of answers to the same items, in the same order.
    ///
    /// # Panics
    /// If there are not as many of one as of the other.
    pub fn of(model: &[bool], base: &[bool]) -> Self {
        assert_eq!(model.len(), base.len(), "the same items");
        let mut flips = Self::default();
        for pair in model.iter().zip(base) {
            *match pair {
                (true, true) => &mut flips.both,
                (true, false) => &mut flips.gained,
                (false, true) => &mut flips.lost,
                (false, false) => &mut flips.neither,
            } += 1;
        }
        flips
    }

    /// All items.
    pub fn items(&self) -> u64 {
        self.both + self.gained + self.lost + self.neither
    }

    /// Accuracy of the model less that of the base.
    pub fn difference(&self) -> f64 {
        (self.gained as f64 - self.lost as f64) / self.items() as f64
    }

    /// Accuracy of the model over that of the base; NaN or infinite where the base got nothing right.
    pub fn ratio(&self) -> f64 {
        (self.both + self.gained) as f64 / (self.both + self.lost) as f64
    }

    /// The probability of flips at least as one-sided as these if both directions were equally likely: the exact two-sided
    /// McNemar test, 2·P(X ≤ min(gained, lost)) for X binomial with gained + lost trials of one half, at most 1. Without flips it
    /// is 1. Source: McNemar 1947, "Note on the sampling error of the difference between correlated proportions or
    /// percentages", Psychometrika 12, with the binomial tail instead of χ².
    pub fn mcnemar(&self) -> f64 {
        let (fewer, trials) = (self.gained.min(self.lost), self.gained + self.lost);
        if 2 * fewer == trials {
            return 1.0;
        }
        // the terms of P(X ≤ k) from the largest on
        let n = trials as f64;
        let mut term = (ln_binomial(trials, fewer) - n * std::f64::consts::LN_2).exp();
        let mut tail = 0.0;
        for k in (0..=fewer).rev() {
            tail += term;
            term *= k as f64 / (n - k as f64 + 1.0);
        }
        (2.0 * tail).min(1.0)
    }

    /// About how many items would put a one-sided bound of `confidence` within `distance` (above 0) of a difference of accuracies,
    /// if flips stayed as frequent: `below` it or above it. `None` if it were a thousand million.
    pub fn items_needed(&self, distance: f64, below: bool, confidence: f64) -> Option<u64> {
        let n = self.items() as f64;
        let (gained, lost) = (self.gained as f64 / n, self.lost as f64 / n);
        let variance = gained + lost - (gained - lost) * (gained - lost);
        let deviations = deviations(confidence);
        let away = if below { lost } else { gained };
        let reaches = |items: u64| {
            let n = items as f64;
            let exact = highest_rate(away * n, n, confidence) - away;
            (deviations * (variance / n).sqrt()).max(exact) > distance
        };
        let mut enough = 1;
        while reaches(enough) {
            enough *= 2;
            if enough > MOST_ITEMS {
                return None;
            }
        }
        let (mut too_few, mut enough) = (enough / 2, enough);
        while enough - too_few > 1 {
            let middle = too_few + (enough - too_few) / 2;
            if reaches(middle) { too_few = middle } else { enough = middle }
        }
        Some(enough)
    }
}

/// One-sided bounds, each with `confidence`, for the accuracy of the model less that of the base.
///
/// They are those of resampled items ([`interval`]), but never closer than what either kind of flip alone leaves open by its exact
/// bound (Clopper and Pearson 1934): where few items flipped, resamples of them know nothing of flips that did not happen to
/// be seen.
pub fn difference(model: &[bool], base: &[bool], confidence: f64) -> Interval {
    let values: Vec<f64> =
        model.iter().zip(base).map(|(&model, &base)| number(model) - number(base)).collect();
    widened(&values, Flips::of(model, base), 1.0, confidence)
}

/// The same for the accuracy of the model over that of the base, which must have got something right.
///
/// With r the ratio, its error is that of the mean of m − r b in parts of the mean of b, to first order (Fieller's linear form).
pub fn ratio(model: &[bool], base: &[bool], confidence: f64) -> Interval {
    let flips = Flips::of(model, base);
    let ratio = flips.ratio();
    let scale = (flips.both + flips.lost) as f64 / flips.items() as f64;
    let pairs = model.iter().zip(base);
    let values: Vec<f64> =
        pairs.map(|(&model, &base)| ratio + (number(model) - ratio * number(base)) / scale).collect();
    let Interval { low, high } = widened(&values, flips, scale, confidence);
    Interval { low: low.max(0.0), high }
}

/// The resampled bounds of the mean of `values`, and no closer than flips allow, in parts of `scale`.
fn widened(values: &[f64], flips: Flips, scale: f64, confidence: f64) -> Interval {
    let n = flips.items() as f64;
    let open = |flips: u64| (highest_rate(flips as f64, n, confidence) - flips as f64 / n) / scale;
    let mean = values.iter().sum::<f64>() / n;
    let Interval { low, high } = interval(values, confidence);
    Interval { low: low.min(mean - open(flips.lost)), high: high.max(mean + open(flips.gained)) }
}

/// The rate that `events` of `n` do not exceed with probability `confidence`: Clopper and Pearson's upper bound, the x at which
/// I_x(events + 1, n - events) is `confidence`. Of many events it is Wilson's (1927), which is then hardly another.
fn highest_rate(events: f64, n: f64, confidence: f64) -> f64 {
    const MANY: f64 = 500.0;
    if events >= n {
        return 1.0;
    }
    if events > MANY {
        let (rate, z) = (events / n, deviations(confidence));
        let spread = z * (rate * (1.0 - rate) / n + z * z / (4.0 * n * n)).sqrt();
        return (rate + z * z / (2.0 * n) + spread) / (1.0 + z * z / n);
    }
    let (mut low, mut high) = (events / n, 1.0);
    for _ in 0..64 {
        let middle = 0.5 * (low + high);
        if beta_reg(events + 1.0, n - events, middle) < confidence { low = middle } else { high = middle }
    }
    high
}

/// The standard normal distribution's quantile.
fn deviations(confidence: f64) -> f64 {
    std::f64::consts::SQRT_2 * erfc_inv(2.0 * (1.0 - confidence))
}

fn number(right: bool) -> f64 {
    f64::from(u8::from(right))
}

#[cfg(test)]
mod tests;
