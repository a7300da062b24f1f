//! Candidate scales.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::QuantError;
use crate::error::{check_length, count_rows};

/// Smallest scale before normalization (the released search clamps to it).
const SMALLEST: f32 = 1e-4;

/// How a ratio becomes a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// s = s_X^α: the paper's (§3.2, equation 5).
    Activation,
    /// s = s_X^α / s_W^(1−α): AutoAWQ's "duo scaling", which also evens out the columns' sizes.
    ActivationOverWeight,
}

/// Scales of one candidate, `[d_in]`, normalized so that the geometric mean of the largest and the smallest is 1.
///
/// `act_mean_abs` is s_X, the mean |x| of each input channel over the calibration tokens; `weight_mean_abs` is s_W as
/// [`weight_mean_abs`] computes it, and choosing it chooses [`Family::ActivationOverWeight`]; `ratio` is α.
/// Scales are at least 1e-4 before they are normalized.
///
/// One departure: a channel that is never active (s_X = 0) gets 1 and takes no part in the normalization. The released search
/// gives it 1e-4, by which one dead channel shifts all others. So α = 0 without weights is the identity always.
///
/// # Errors
/// Different lengths; a statistic that is negative or not finite; a ratio outside 0 to 1.
pub fn candidate_scales(
    act_mean_abs: &[f32],
    weight_mean_abs: Option<&[f32]>,
    ratio: f32,
) -> Result<Vec<f32>, QuantError> {
    check_statistic("mean absolute activations", act_mean_abs)?;
    if !(0.0..=1.0).contains(&ratio) {
        return Err(QuantError::Value { what: "ratio", index: 0, value: ratio });
    }
    let mut scales: Vec<f32> = act_mean_abs.iter().map(|x| x.powf(ratio)).collect();
    if let Some(weights) = weight_mean_abs {
        check_length("mean absolute weights", weights, act_mean_abs.len())?;
        check_statistic("mean absolute weights", weights)?;
        for (s, w) in scales.iter_mut().zip(weights) {
            *s /= w.powf(1.0 - ratio) + SMALLEST;
        }
    }
    let live = |s: &mut [f32], f: &mut dyn FnMut(&mut f32)| {
        s.iter_mut().zip(act_mean_abs).filter(|(_, x)| **x > 0.0).for_each(|(s, _)| f(s));
    };
    let (mut smallest, mut largest) = (f32::INFINITY, 0f32);
    live(&mut scales, &mut |s| {
        *s = s.max(SMALLEST);
        smallest = smallest.min(*s);
        largest = largest.max(*s);
    });
    let middle = (largest * smallest).sqrt();
    live(&mut scales, &mut |s| *s /= middle);
    for (s, x) in scales.iter_mut().zip(act_mean_abs) {
        if *x == 0.0 {
            *s = 1.0;
        }
    }
    Ok(scales)
}

/// s_W, `[d_in]`: how large each column's weights are beside the largest weight of their group, averaged over the rows of
/// all `consumers` (`[d_out, d_in]` each; d_in is `columns`).
///
/// s_W\[j\] = mean over rows i of |W\[i, j\]| / (max |W\[i, g\]| over j's group of `group_size` columns + 1e-6); sums in f64,
/// in row order. The last group of a row may be shorter. 32 columns a group, the width that most GGUF grids scale at, is a
/// good choice for all of them.
///
/// Source: AutoAWQ, `quantize/quantizer.py`, `_search_best_scale`.
///
/// # Errors
/// No consumers, lengths that do not fit, a group size of 0.
pub fn weight_mean_abs(
    consumers: &[&[f32]],
    columns: usize,
    group_size: usize,
) -> Result<Vec<f32>, QuantError> {
    const TASK_ROWS: usize = 64;
    if group_size == 0 || consumers.is_empty() {
        return Err(QuantError::Length { what: "groups of consumers", expected: 1, found: 0 });
    }
    let mut sums = vec![0f64; columns];
    let mut rows = 0;
    for weights in consumers {
        rows += count_rows("weights", weights.len(), columns)?;
        let parts: Vec<Vec<f64>> = weights
            .par_chunks(TASK_ROWS * columns)
            .map(|rows| {
                let mut sums = vec![0f64; columns];
                for row in rows.chunks_exact(columns) {
                    for (group, sums) in row.chunks(group_size).zip(sums.chunks_mut(group_size)) {
                        let largest = group.iter().fold(0f32, |m, w| m.max(w.abs())) + 1e-6;
                        for (s, w) in sums.iter_mut().zip(group) {
                            *s += f64::from(w.abs() / largest);
                        }
                    }
                }
                sums
            })
            .collect();
        for part in parts {
            sums.iter_mut().zip(part).for_each(|(s, p)| *s += p);
        }
    }
    Ok(sums.iter().map(|s| (s / rows.max(1) as f64) as f32).collect())
}

fn check_statistic(what: &'static str, values: &[f32]) -> Result<(), QuantError> {
    match values.iter().position(|v| !(v.is_finite() && *v >= 0.0)) {
        None => Ok(()),
        Some(index) => Err(QuantError::Value { what, index, value: values[index] }),
    }
}
