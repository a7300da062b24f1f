//! How many weights each tensor loses where not all lose the same share: shares become counts that add up exactly.

use crate::PruneError;

/// A tensor's weights and the share of them that should become zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// Number of weights.
    pub weights: u64,
    /// 0 to 1.
    pub share: f64,
}

/// Counts that add up to `total`, as near to the shares as that allows: all shares are shifted alike until they come to the total,
/// and what is left of rounding down goes to the largest remainders (Hamilton's method), of equal ones to the first.
///
/// # Errors
/// A total above the number of weights; a share that is none.
pub fn counts(tensors: &[Share], total: u64) -> Result<Vec<u64>, PruneError> {
    let all: u64 = tensors.iter().map(|tensor| tensor.weights).sum();
    if total > all {
        return Err(PruneError::Budget { total, weights: all });
    }
    if let Some(index) = tensors.iter().position(|tensor| !(0.0..=1.0).contains(&tensor.share)) {
        return Err(PruneError::Value { what: "shares", index, value: tensors[index].share as f32 });
    }
    let sum =
        |shift: f64| -> f64 { tensors.iter().map(|t| t.weights as f64 * shifted(t.share, shift)).sum() };
    // monotone in the shift: bisection, to the last bit
    let (mut low, mut high) = (-1.0f64, 1.0f64);
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        if sum(middle) < total as f64 { low = middle } else { high = middle }
    }
    let real: Vec<f64> = tensors.iter().map(|t| t.weights as f64 * shifted(t.share, high)).collect();
    let mut counts: Vec<u64> =
        real.iter().zip(tensors).map(|(real, t)| (*real as u64).min(t.weights)).collect();
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    let remainder = |n: usize| real[n] - real[n].floor();
    order.sort_by(|&a, &b| remainder(b).total_cmp(&remainder(a)).then(a.cmp(&b)));
    let mut given: u64 = counts.iter().sum();
    // sums of f64 may be off by a few weights in either direction
    while given != total {
        for &n in &order {
            if given < total && counts[n] < tensors[n].weights {
                counts[n] += 1;
                given += 1;
            } else if given > total && counts[n] > 0 {
                counts[n] -= 1;
                given -= 1;
            }
            if given == total {
                break;
            }
        }
    }
    Ok(counts)
}

fn shifted(share: f64, shift: f64) -> f64 {
    (share + shift).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counts_add_up_and_stay_near_the_shares(
            tensors in prop::collection::vec((1u64..5000, 0.0f64..1.0), 1..12),
            part in 0.0f64..=1.0,
        ) {
            let tensors: Vec<Share> = tensors.into_iter().map(|(weights, share)| Share { weights, share }).collect();
            let all: u64 = tensors.iter().map(|t| t.weights).sum();
            let total = (part * all as f64).round() as u64;
            let counts = counts(&tensors, total).unwrap();
            prop_assert_eq!(counts.iter().sum::<u64>(), total);
            // one shift explains all of them, within a weight
            let shifts: Vec<[f64; 2]> = counts.iter().zip(&tensors).map(|(&count, t)| {
                let bound = |count: f64| count / t.weights as f64 - t.share;
                let low = if count == 0 { -1.0 } else { bound(count as f64 - 1.001) };
                let high = if count == t.weights { 1.0 } else { bound(count as f64 + 1.001) };
                [low, high]
            }).collect();
            let low = shifts.iter().map(|s| s[0]).fold(f64::MIN, f64::max);
            let high = shifts.iter().map(|s| s[1]).fold(f64::MAX, f64::min);
            prop_assert!(low <= high, "{:?} for {:?}", counts, tensors);
        }
    }

    #[test]
    fn equal_shares_stay_equal_and_too_many_are_refused() {
        let half = Share { weights: 10, share: 0.5 };
        assert_eq!(counts(&[half, half], 10).unwrap(), [5, 5]);
        assert_eq!(counts(&[half, half], 11).unwrap(), [6, 5]);
        assert!(counts(&[half], 11).is_err());
        assert!(counts(&[Share { weights: 1, share: f64::NAN }], 1).is_err());
    }
}
