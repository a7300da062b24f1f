//! x ≈ d · q with q ∈ −127..=127 and d an f16: the scale of Q8_0 that minimises Σ w (x − d q)².
//!
//! With 255 levels nothing is gained by clipping, and least squares hardly move the scale. But how the 32
//! values happen to fall between their levels differs from scale to scale, and the best of ten scales that
//! are a little larger than |x|max / 127 leaves a fifth less error than ggml's `quantize_row_q8_0_ref`, which
//! takes that scale itself. What is left is compared directly: as a difference of sums of squares it would
//! drown in their rounding.

use pulp::{Arch, Simd, WithSimd};

use super::lanes::{F32, Group, LANES, Tile, groups};

/// Level that the largest |x| is brought to, one trial each. The integers find back the scale of values that
/// were encoded before.
const TRIALS: [f32; 10] = [127.4, 127.0, 126.5, 126.0, 125.5, 125.0, 124.5, 124.0, 123.5, 123.0];

/// The scale of each block, rounded to the significant bits of an f16; 0 for a block of zeros.
pub(in super::super) fn fit(arch: Arch, tile: &Tile<32>) -> [f32; LANES] {
    struct Op<'a>(&'a Tile<32>);
    impl WithSimd for Op<'_> {
        type Output = [f32; LANES];
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
            let mut scale = [0.0; LANES];
            for group in 0..groups::<S>() {
                fit_group(simd, &self.0.group(simd, group)).store(&mut scale, group);
            }
            scale
        }
    }
    arch.dispatch(Op(tile))
}

#[inline(always)]
fn fit_group<S: Simd>(simd: S, group: &Group<S, 32>) -> F32<S> {
    let splat = |value| F32::splat(simd, value);
    let zero = splat(0.0);
    let mut largest = zero;
    for x in group.x {
        largest = largest.max(x).max(zero - x);
    }
    let mut best = Fitted { scale: zero, error: splat(f32::MAX) };
    for level in TRIALS {
        let trial = error_of(simd, group, largest, largest * splat(1.0 / level));
        best = best.or(trial.fitted);
    }
    // Once more from the best: the least-squares scale of its levels.
    let levels = error_of(simd, group, largest, best.scale);
    best.or(error_of(simd, group, largest, levels.least_squares).fitted).scale
}

#[derive(Clone, Copy)]
struct Fitted<S: Simd> {
    scale: F32<S>,
    /// Σ w (x − d q)².
    error: F32<S>,
}

struct Trial<S: Simd> {
    fitted: Fitted<S>,
    /// Best scale for the levels of this one.
    least_squares: F32<S>,
}

/// What `scale`, rounded to an f16's eleven significant bits, leaves. A scale under which a value would round to
/// ±128 counts as the worst.
#[inline(always)]
fn error_of<S: Simd>(simd: S, group: &Group<S, 32>, largest: F32<S>, scale: F32<S>) -> Trial<S> {
    let splat = |value| F32::splat(simd, value);
    let (zero, one) = (splat(0.0), splat(1.0));
    let scale = round_to_eleven_bits(simd, scale);
    let positive = scale.gt(zero);
    let inverse = positive.select(one / positive.select(scale, one), zero);
    let (low, high) = (splat(-127.0), splat(127.0));
    let (mut error, mut xq, mut qq) = (zero, zero, zero);
    for (x, w) in group.x.into_iter().zip(group.w) {
        let q = (x * inverse).round_clamped(low, high);
        let left = x - scale * q;
        error = error + w * (left * left);
        xq = xq + w * (x * q);
        qq = qq + w * (q * q);
    }
    let error = (scale * splat(127.49)).gt(largest).select(error, splat(f32::MAX));
    let any = qq.gt(zero);
    let least_squares = any.select(xq / any.select(qq, one), zero);
    Trial { fitted: Fitted { scale, error }, least_squares }
}

/// The nearest number with eleven significant bits (Veltkamp's splitting, T. J. Dekker 1971).
#[inline(always)]
fn round_to_eleven_bits<S: Simd>(simd: S, x: F32<S>) -> F32<S> {
    let spread = x * F32::splat(simd, 8193.0); // 2¹³ + 1: f32 has 13 bits more than f16
    spread - (spread - x)
}

impl<S: Simd> Fitted<S> {
    /// Whichever leaves less, `self` where both leave the same.
    #[inline(always)]
    fn or(self, other: Self) -> Self {
        let better = self.error.gt(other.error);
        Fitted {
            scale: better.select(other.scale, self.scale),
            error: better.select(other.error, self.error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::lanes::tests::{error, tile};
    use super::*;

    #[test]
    fn never_worse_than_the_plain_scale_and_never_at_minus_128() {
        for seed in 0..50 {
            let tile = tile::<32>(seed);
            let scale = fit(Arch::new(), &tile);
            for lane in 0..LANES {
                let largest = tile.x.iter().fold(0.0f32, |most, row| most.max(row[lane].abs()));
                let plain = half::f16::from_f32(largest / 127.0).to_f32();
                let left = |scale: f32| error(&tile, lane, |x| scale * (x / scale).round_ties_even());
                assert!(left(scale[lane]) <= left(plain) * 1.000_01, "seed {seed} lane {lane}");
                assert_eq!(half::f16::from_f32(scale[lane]).to_f32(), scale[lane], "seed {seed} lane {lane}");
                assert!(largest / scale[lane] < 127.5, "seed {seed} lane {lane}");
            }
        }
    }

    #[test]
    fn zeros_have_scale_zero_and_every_instruction_set_agrees() {
        let mut tile = tile::<32>(2);
        tile.x.iter_mut().for_each(|row| row[5] = 0.0);
        let scale = fit(Arch::new(), &tile);
        assert_eq!(scale[5], 0.0);
        assert_eq!(scale.map(f32::to_bits), fit(Arch::Scalar, &tile).map(f32::to_bits));
    }
}
