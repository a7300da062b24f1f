//! Means with standard errors, and percentiles.
//!
//! The definitions are llama.cpp's (`kl_divergence()` in `tools/perplexity/perplexity.cpp`); they are evaluated in two
//! passes in f64, where llama.cpp subtracts sums of squares and keeps percentiles in f32.

use serde::Serialize;

/// A mean and its standard error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The arithmetic mean.
    pub mean: f64,
    /// sqrt(Σ(x - mean)² / (n - 1) / n), 0 for a single value.
    pub stderr: f64,
}

impl Estimate {
    /// Of `values`, as if they were independent. NaN if there are none.
    pub fn of(values: impl ExactSizeIterator<Item = f64> + Clone) -> Self {
        let n = values.len() as f64;
        let mean = values.clone().sum::<f64>() / n;
        let squares: f64 = values.map(|x| (x - mean) * (x - mean)).sum();
        let stderr = if n > 1.0 { (squares / (n - 1.0) / n).sqrt() } else { 0.0 };
        Self { mean, stderr }
    }
}

/// How values are distributed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Distribution {
    /// The arithmetic mean.
    pub mean: f64,
    /// Its standard error.
    pub stderr: f64,
    /// The smallest value.
    pub min: f64,
    /// The 0.1th percentile.
    pub p0_1: f64,
    /// The 1st percentile.
    pub p1: f64,
    /// The 5th percentile.
    pub p5: f64,
    /// The 10th percentile.
    pub p10: f64,
    /// The 25th percentile.
    pub p25: f64,
    /// The median.
    pub median: f64,
    /// The 75th percentile.
    pub p75: f64,
    /// The 90th percentile.
    pub p90: f64,
    /// The 95th percentile.
    pub p95: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The 99.9th percentile.
    pub p999: f64,
    /// The largest value.
    pub max: f64,
}

impl Distribution {
    /// Of `values`; every field is NaN if there are none.
    pub fn of(mut values: Vec<f64>) -> Self {
        let Estimate { mean, stderr } = Estimate::of(values.iter().copied());
        values.sort_unstable_by(f64::total_cmp);
        let at = |fraction| percentile(&values, fraction).unwrap_or(f64::NAN);
        Self {
            mean,
            stderr,
            min: at(0.0),
            p0_1: at(0.001),
            p1: at(0.01),
            p5: at(0.05),
            p10: at(0.1),
            p25: at(0.25),
            median: at(0.5),
            p75: at(0.75),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            max: at(1.0),
        }
    }
}

/// The value below which `fraction` (0 to 1) of the `sorted` values lie: the linear interpolation of the two values
/// around index `fraction·(n - 1)`. `None` if there are no values.
pub fn percentile(sorted: &[f64], fraction: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let position = fraction.clamp(0.0, 1.0) * last as f64;
    let below = position as usize;
    let weight = position - below as f64;
    Some((1.0 - weight) * sorted[below] + weight * sorted[(below + 1).min(last)])
}

/// Pearson's correlation of `x` and `y`, `None` where one of them does not vary.
pub(crate) fn correlation(x: &[f64], y: &[f64]) -> Option<f64> {
    let mean_x = Estimate::of(x.iter().copied()).mean;
    let mean_y = Estimate::of(y.iter().copied()).mean;
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (x, y) in x.iter().zip(y) {
        let (dx, dy) = (x - mean_x, y - mean_y);
        xx += dx * dx;
        yy += dy * dy;
        xy += dx * dy;
    }
    let scale = (xx * yy).sqrt();
    (scale > 0.0).then(|| (xy / scale).clamp(-1.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_interpolate_between_neighbours() {
        let sorted = [1.0, 2.0, 4.0, 8.0];
        assert_eq!(percentile(&sorted, 0.0), Some(1.0));
        assert_eq!(percentile(&sorted, 0.5), Some(3.0));
        // Index 2.7 of 0..=3.
        assert!((percentile(&sorted, 0.9).unwrap() - (0.3 * 4.0 + 0.7 * 8.0)).abs() < 1e-15);
        assert_eq!(percentile(&sorted, 1.0), Some(8.0));
        assert_eq!(percentile(&[5.0], 0.3), Some(5.0));
        assert_eq!(percentile(&[], 0.3), None);
    }

    #[test]
    fn standard_error_is_that_of_independent_values() {
        // Variance of 1..=5 with n - 1 is 2.5; of the mean, 0.5.
        let estimate = Estimate::of([1.0, 2.0, 3.0, 4.0, 5.0].into_iter());
        assert_eq!(estimate, Estimate { mean: 3.0, stderr: 0.5_f64.sqrt() });
        assert_eq!(Estimate::of([7.0].into_iter()), Estimate { mean: 7.0, stderr: 0.0 });
    }

    #[test]
    fn distribution_sorts_what_it_is_given() {
        let distribution = Distribution::of(vec![3.0, -1.0, 2.0, 0.0, 1.0]);
        assert_eq!((distribution.min, distribution.median, distribution.max), (-1.0, 1.0, 3.0));
        assert_eq!((distribution.p25, distribution.p75), (0.0, 2.0));
        assert!(Distribution::of(vec![]).mean.is_nan());
    }

    #[test]
    fn correlation_of_a_line_is_its_direction() {
        let x = [1.0, 2.0, 5.0];
        let line = |slope: f64| x.map(|x| slope * x + 1.0);
        assert!((correlation(&x, &line(2.0)).unwrap() - 1.0).abs() < 1e-15);
        assert!((correlation(&x, &line(-3.0)).unwrap() + 1.0).abs() < 1e-15);
        assert_eq!(correlation(&x, &line(0.0)), None);
    }
}
