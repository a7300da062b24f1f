//! How long tokens take: percentiles over tokens, spread over repetitions, and one model's latency beside another's.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::gate::Interval;
use crate::statistics::{Estimate, percentile};

/// One run: a prompt read from nothing, then tokens written one by one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Repetition {
    /// Seconds from the prompt's first token in to the first token out.
    pub first_token_seconds: f64,
    /// Seconds of each token after the first; at least one.
    pub token_seconds: Vec<f64>,
}

impl Repetition {
    /// The median of the tokens after the first, in seconds.
    pub fn median(&self) -> f64 {
        quantile(self.token_seconds.clone(), 0.5)
    }
}

/// A figure over the repetitions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// Standard deviation, n − 1; 0 for one repetition.
    pub stddev: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of one value a repetition; NaN if there are none.
    pub fn of(values: Vec<f64>) -> Self {
        let stddev = Estimate::of(values.iter().copied()).stderr * (values.len() as f64).sqrt();
        let at = |fraction| quantile(values.clone(), fraction);
        Self { median: at(0.5), stddev, min: at(0.0), max: at(1.0) }
    }
}

/// How fast a model is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// Seconds from the prompt in to the first token out.
    pub first_token_seconds: Spread,
    /// Tokens of the prompt a second, up to the first token out.
    pub prompt_tokens_per_second: Spread,
    /// Tokens after the first a second.
    pub tokens_per_second: Spread,
    /// Each repetition's median of its tokens' seconds.
    pub token_seconds: Spread,
    /// The median over all tokens of all repetitions, the first of each left out, in seconds.
    pub token_seconds_p50: f64,
    /// The 95th percentile of the same.
    pub token_seconds_p95: f64,
}

impl Latency {
    /// Of repetitions with a prompt of `prompt_tokens`; NaN if there are none.
    pub fn of(repetitions: &[Repetition], prompt_tokens: usize) -> Self {
        let each = |of: &dyn Fn(&Repetition) -> f64| Spread::of(repetitions.iter().map(of).collect());
        let tokens: Vec<f64> = repetitions.iter().flat_map(|r| r.token_seconds.iter().copied()).collect();
        Self {
            first_token_seconds: each(&|r| r.first_token_seconds),
            prompt_tokens_per_second: each(&|r| prompt_tokens as f64 / r.first_token_seconds),
            tokens_per_second: each(&|r| r.token_seconds.len() as f64 / r.token_seconds.iter().sum::<f64>()),
            token_seconds: each(&Repetition::median),
            token_seconds_p50: quantile(tokens.clone(), 0.5),
            token_seconds_p95: quantile(tokens, 0.95),
        }
    }
}

/// One model's latency over another's, less 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LatencyIncrease {
    /// What was measured: −0.5 is half the latency.
    pub value: f64,
    /// Where the true one lies; `None` (null) for a single repetition.
    pub interval: Option<Interval>,
}

impl LatencyIncrease {
    /// Of `model` over `base`, whose repetitions were run in turn: both of a pair saw the same machine, so each pair gives one
    /// ratio of median latencies per token. The mean of the ratios' logarithms has Student's distribution around the true
    /// one, with a degree of freedom less than there are pairs; each bound is one-sided with `confidence`.
    ///
    /// # Panics
    /// If the two have different numbers of repetitions, or none.
    pub fn of(base: &[Repetition], model: &[Repetition], confidence: f64) -> Self {
        assert!(base.len() == model.len() && !base.is_empty(), "pairs of repetitions");
        let logs: Vec<f64> = base.iter().zip(model).map(|(b, m)| (m.median() / b.median()).ln()).collect();
        let Estimate { mean, stderr } = Estimate::of(logs.iter().copied());
        let reach = StudentsT::new(0.0, 1.0, logs.len() as f64 - 1.0)
            .ok()
            .map(|t| t.inverse_cdf(confidence) * stderr);
        let interval =
            reach.map(|reach| Interval { low: (mean - reach).exp_m1(), high: (mean + reach).exp_m1() });
        Self { value: mean.exp_m1(), interval }
    }
}

fn quantile(mut values: Vec<f64>, fraction: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    percentile(&values, fraction).unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repetition(first: f64, tokens: &[f64]) -> Repetition {
        Repetition { first_token_seconds: first, token_seconds: tokens.to_vec() }
    }

    #[test]
    fn figures_are_those_of_the_tokens_and_of_the_repetitions() {
        let runs = [repetition(0.5, &[0.1, 0.3, 0.2]), repetition(1.0, &[0.4, 0.4, 0.4])];
        let latency = Latency::of(&runs, 10);
        assert_eq!(latency.first_token_seconds.min, 0.5);
        assert_eq!(latency.prompt_tokens_per_second.max, 20.0);
        assert!((latency.tokens_per_second.max - 5.0).abs() < 1e-12);
        assert!((latency.tokens_per_second.min - 2.5).abs() < 1e-12);
        assert!((latency.token_seconds.median - 0.3).abs() < 1e-12);
        // of 0.1 0.2 0.3 0.4 0.4 0.4
        assert!((latency.token_seconds_p50 - 0.35).abs() < 1e-12);
        assert!((latency.token_seconds_p95 - 0.4).abs() < 1e-12);
        // 0.5 and 1: mean 0.75, deviations of 0.25, n − 1 = 1
        assert!((latency.first_token_seconds.stddev - 0.125_f64.sqrt()).abs() < 1e-12);
    }

    /// Bounds of scipy: `m + t.ppf(0.95, 3) * s / 2` of log([1.1, 1.2, 1.05, 1.15]), then expm1.
    #[test]
    fn the_interval_is_students() {
        let base: Vec<_> = (0..4).map(|_| repetition(1.0, &[2.0])).collect();
        let model: Vec<_> = [2.2, 2.4, 2.1, 2.3].iter().map(|&s| repetition(1.0, &[s])).collect();
        let increase = LatencyIncrease::of(&base, &model, 0.95);
        let interval = increase.interval.unwrap();
        assert!((increase.value - SCIPY[0]).abs() < 1e-9, "{increase:?}");
        assert!(
            (interval.low - SCIPY[1]).abs() < 1e-7 && (interval.high - SCIPY[2]).abs() < 1e-7,
            "{interval:?}"
        );
        assert_eq!(LatencyIncrease::of(&base[..1], &model[..1], 0.95).interval, None);
    }

    const SCIPY: [f64; 3] = [0.12360915123990014, 0.05014275079659438, 0.2022151500759025];
}
