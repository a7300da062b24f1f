//! Bounds for a mean, by resampling.

use serde::Serialize;

use crate::statistics::{Estimate, percentile};

/// Resamples: the bounds' own error is then a few per cent of their distance from the mean.
const RESAMPLES: usize = 2000;

/// The same resamples for the same number of values, so that the same scores give the same verdict.
const SEED: u64 = 0x51_3d_6a_7e;

/// Bounds of a mean.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// The true mean is below this with probability 1 − confidence.
    pub low: f64,
    /// The true mean is above this with probability 1 − confidence.
    pub high: f64,
}

/// One-sided bounds, each with `confidence` (0.5 to 1), for the mean of which `values` are independent observations.
///
/// Studentized bootstrap: the mean's error in units of its standard error has the distribution that it has among resamples
/// of the values around their own mean, so that skewed values, such as divergences, get skewed bounds.
/// Source: Efron and Tibshirani, "An Introduction to the Bootstrap", section 12.5.
pub fn interval(values: &[f64], confidence: f64) -> Interval {
    let Estimate { mean, stderr } = Estimate::of(values.iter().copied());
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut sample = vec![0.0; values.len()];
    let mut deviations = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        sample.fill_with(|| values[random.usize(..values.len())]);
        let resampled = Estimate::of(sample.iter().copied());
        if resampled.stderr > 0.0 {
            deviations.push((resampled.mean - mean) / resampled.stderr);
        }
    }
    deviations.sort_unstable_by(f64::total_cmp);
    let bound = |fraction| mean - percentile(&deviations, fraction).unwrap_or(0.0) * stderr;
    Interval { low: bound(confidence), high: bound(1.0 - confidence) }
}
