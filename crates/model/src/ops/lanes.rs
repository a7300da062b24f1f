//! Reductions over a row in sixteen lanes: vectorizable, and in an order that the row's length alone decides.

const LANES: usize = 16;

/// Largest value; −∞ for an empty row.
#[inline(always)]
pub(super) fn maximum(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = if value > *lane { value } else { *lane };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a })
}

/// Sum of squares: f32 in each lane, f64 across lanes.
#[inline(always)]
pub(super) fn sum_of_squares(row: &[f32]) -> f64 {
    let mut lanes = [0.0f32; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += value * value;
        }
    }
    let tail: f64 = rest.iter().map(|&value| f64::from(value * value)).sum();
    lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>() + tail
}

/// Sum: f32 in each lane, f64 across lanes.
#[inline(always)]
pub(super) fn sum(row: &[f32]) -> f64 {
    let mut lanes = [0.0f32; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += value;
        }
    }
    let tail: f64 = rest.iter().map(|&value| f64::from(value)).sum();
    lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>() + tail
}
