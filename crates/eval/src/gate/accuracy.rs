//! Whether a compressed model still gets as many items right.

use super::{Check, Metric, Side, Verdict, conclude};
use crate::paired::{Flips, ratio};

/// Items below which nothing is decided: resamples of so few right and wrong answers are hardly different from each other.
pub const FEWEST_ITEMS: u64 = 30;

/// Holds the accuracy of the model over that of its base, on the same items in the same order, against the least that it may be.
/// Each bound is one-sided with `confidence`; where a base gets nothing right, nothing is decided.
///
/// # Panics
/// If there are not as many answers of one as of the other.
pub fn check_accuracy(model: &[bool], base: &[bool], limit: f64, confidence: f64) -> Check {
    let flips = Flips::of(model, base);
    let value = flips.ratio();
    let metric = Metric::AccuracyRatio;
    let undecided = |windows_needed| Check {
        metric,
        limit,
        value,
        interval: None,
        verdict: Verdict::Undecided,
        windows_needed,
    };
    if flips.both + flips.lost == 0 {
        return undecided(None);
    }
    // in parts of the base's accuracy; with the value at its limit no number of items decides
    let distance = (value - limit).abs() * (flips.both + flips.lost) as f64 / flips.items() as f64;
    let needed = (distance > 0.0)
        .then(|| flips.items_needed(distance, value > limit, confidence))
        .flatten()
        .map(|needed| needed.max(FEWEST_ITEMS));
    if flips.items() < FEWEST_ITEMS {
        return undecided(needed);
    }
    let interval = ratio(model, base, confidence);
    let check = conclude(metric, limit, Side::AtLeast, (value, interval), model.len());
    // where few items flipped, bounds shrink faster than with the root of the number of items
    Check { windows_needed: needed.filter(|_| check.verdict == Verdict::Undecided), ..check }
}
