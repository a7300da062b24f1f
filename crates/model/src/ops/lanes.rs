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

/// Σ aᵢ bᵢ: f32 in 64 lanes, f64 across lanes.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    // Four vectors of lanes: one alone would wait for its last sum at every step.
    const VECTORS: usize = 4;
    let mut sums = [[0.0f32; LANES]; VECTORS];
    let (a_chunks, a_rest) = a.as_chunks::<{ VECTORS * LANES }>();
    let (b_chunks, b_rest) = b.as_chunks::<{ VECTORS * LANES }>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for (vector, lanes) in sums.iter_mut().enumerate() {
            for (lane, sum) in lanes.iter_mut().enumerate() {
                let i = vector * LANES + lane;
                *sum = a[i].mul_add(b[i], *sum);
            }
        }
    }
    let tail: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| f64::from(a * b)).sum();
    (sums.as_flattened().iter().map(|&sum| f64::from(sum)).sum::<f64>() + tail) as f32
}
