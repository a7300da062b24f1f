//! Whether a compressed model is fast enough.

use super::{Check, Metric, Side, Verdict, conclude};
use crate::latency::{LatencyIncrease, Repetition};

/// Repetitions below which nothing is decided: the spread of two says little of the spread there is.
pub const FEWEST_REPETITIONS: usize = 3;

/// Holds the increase of the median latency per token of `model` over that of `base` against `limit`. The two were run in turn;
/// for the bounds see [`LatencyIncrease::of`].
///
/// # Panics
/// As [`LatencyIncrease::of`].
pub fn judge_latency(base: &[Repetition], model: &[Repetition], limit: f64, confidence: f64) -> Check {
    let metric = Metric::LatencyIncrease;
    let LatencyIncrease { value, interval } = LatencyIncrease::of(base, model, confidence);
    match interval.filter(|_| base.len() >= FEWEST_REPETITIONS) {
        Some(interval) => conclude(metric, limit, Side::AtMost, (value, interval), base.len()),
        None => {
            let (verdict, windows_needed) = (Verdict::Undecided, Some(FEWEST_REPETITIONS as u64));
            Check { metric, limit, value, interval: None, verdict, windows_needed }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(seconds: &[f64]) -> Vec<Repetition> {
        seconds.iter().map(|&s| Repetition { first_token_seconds: 1.0, token_seconds: vec![s; 3] }).collect()
    }

    #[test]
    fn clear_increases_are_told_and_noise_is_not() {
        let base = runs(&[1.0, 1.1, 0.9, 1.05, 1.0]);
        let verdict = |model: &[f64], limit| judge_latency(&base, &runs(model), limit, 0.95).verdict;
        // what slowed both down does not count
        let model = [0.505, 0.545, 0.455, 0.52, 0.5];
        assert_eq!(verdict(&model, -0.4), Verdict::Passed);
        assert_eq!(verdict(&model, 0.0), Verdict::Passed);
        assert_eq!(verdict(&[1.31, 1.42, 1.18, 1.36, 1.3], 0.1), Verdict::Regression);
        let noisy = judge_latency(&base, &runs(&[1.5, 0.9, 1.2, 0.8, 1.3]), 0.1, 0.95);
        assert_eq!(noisy.verdict, Verdict::Undecided);
        assert!(noisy.windows_needed.unwrap() > 5, "{noisy:?}");
        // exactly as fast, without any noise
        assert_eq!(judge_latency(&base, &base, 0.0, 0.95).verdict, Verdict::Passed);
    }

    #[test]
    fn two_repetitions_decide_nothing() {
        let check = judge_latency(&runs(&[1.0, 1.0]), &runs(&[9.0, 9.0]), 0.1, 0.95);
        assert_eq!(
            (check.verdict, check.interval, check.windows_needed),
            (Verdict::Undecided, None, Some(3))
        );
    }

    /// A model exactly at its limit, with noise: false alarms and false passes are as rare as stated.
    #[test]
    fn alarms_are_as_rare_as_stated() {
        const RUNS: usize = 1000;
        let mut random = fastrand::Rng::with_seed(11);
        let mut noisy = |mean: f64| {
            let seconds: Vec<f64> = (0..5)
                .map(|_| mean * (0.05 * ((0..12).map(|_| random.f64()).sum::<f64>() - 6.0)).exp())
                .collect();
            runs(&seconds)
        };
        let (mut alarms, mut passes) = (0, 0);
        for _ in 0..RUNS {
            let (base, model) = (noisy(1.0), noisy(1.1));
            match judge_latency(&base, &model, 0.1, 0.95).verdict {
                Verdict::Regression => alarms += 1,
                Verdict::Passed => passes += 1,
                Verdict::Undecided => {}
            }
        }
        // 5 % of 1000 are 50, with a standard deviation of 6.9
        assert!((25..=75).contains(&alarms), "{alarms} alarms");
        assert!((25..=75).contains(&passes), "{passes} passes");
    }
}
