//! Reductions over a row in lanes: vectorizable, and most of them in an order that the row's length alone decides.

use pulp::Simd;

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

/// Σ aᵢ bᵢ: f32 in each lane, f64 across lanes.
#[inline(always)]
pub(super) fn sum_of_products(a: &[f32], b: &[f32]) -> f64 {
    let mut lanes = [0.0f32; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let (a_rest, b_rest) = (a.remainder(), b.remainder());
    for (a, b) in a.zip(b) {
        for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    let tail: f64 = a_rest.iter().zip(b_rest).map(|(&a, &b)| f64::from(a * b)).sum();
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

/// Σ aᵢ bᵢ in f32, in an order that the row's length and the processor's vectors decide.
#[inline(always)]
pub(super) fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (S::as_simd_f32s(a), S::as_simd_f32s(b));
    // Four sums: one alone would have every step wait for the one before it.
    let mut sums = [simd.splat_f32s(0.0); 4];
    let ((a_fours, a_few), (b_fours, b_few)) = (a.as_chunks::<4>(), b.as_chunks::<4>());
    for (a, b) in a_fours.iter().zip(b_fours) {
        for i in 0..sums.len() {
            sums[i] = simd.mul_add_f32s(a[i], b[i], sums[i]);
        }
    }
    for ((sum, &a), &b) in sums.iter_mut().zip(a_few).zip(b_few) {
        *sum = simd.mul_add_f32s(a, b, *sum);
    }
    let [first, second, third, fourth] = sums;
    let sum = simd.add_f32s(simd.add_f32s(first, second), simd.add_f32s(third, fourth));
    a_rest.iter().zip(b_rest).fold(simd.reduce_sum_f32s(sum), |sum, (a, b)| a.mul_add(*b, sum))
}
