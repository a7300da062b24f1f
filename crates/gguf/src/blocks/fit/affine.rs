//! x ≈ s · q + o with integer levels q ∈ 0..=highest: the scale s ≥ 0 and the offset o that minimise
//! Σ w (x − s q − o)².
//!
//! For given levels s and o follow by weighted least squares. Levels come from stretching the range of x
//! over 0..=highest with its ends moved a little; the best of these is refined by rounding and least
//! squares in turn (ggml's `make_qkx2_quants` and `make_qkx3_quants` move one end only and do not refine).

use pulp::{Arch, Simd, WithSimd};

use super::lanes::{F32, Group, LANES, Tile, groups};

/// Which offsets a format can store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offset {
    /// Any, as in Q4_1 and Q5_1.
    Free,
    /// Zero or below, as in the K-quants, which store −o unsigned.
    NotPositive,
}

/// The levels codes stand for, and how hard to look for scale and offset.
#[derive(Clone, Copy, Debug)]
pub struct Affine {
    /// Largest level.
    pub highest: f32,
    /// Which offsets can be stored.
    pub offset: Offset,
    /// Levels by which the least and the largest x are moved outwards of 0 and `highest`
    /// (negative: inwards) before rounding.
    pub trials: &'static [(f32, f32)],
    /// Refinements of the best trial.
    pub refits: usize,
}

/// Every pair of `moves`, as trials.
pub const fn grid<const M: usize, const PAIRS: usize>(moves: [f32; M]) -> [(f32, f32); PAIRS] {
    assert!(M * M == PAIRS);
    let mut pairs = [(0.0, 0.0); PAIRS];
    let mut i = 0;
    while i < PAIRS {
        pairs[i] = (moves[i / M], moves[i % M]);
        i += 1;
    }
    pairs
}

/// Scales and offsets of the sub-blocks of a tile.
#[derive(Clone, Copy, Debug)]
pub struct ScalesAndOffsets {
    /// s of each lane.
    pub scale: [f32; LANES],
    /// o of each lane.
    pub offset: [f32; LANES],
}

impl Affine {
    /// Scale and offset of each sub-block; scale 0 where all x are equal and the offset can say it.
    pub fn fit<const N: usize>(&self, arch: Arch, tile: &Tile<N>) -> ScalesAndOffsets {
        struct Op<'a, const N: usize>(&'a Affine, &'a Tile<N>);
        impl<const N: usize> WithSimd for Op<'_, N> {
            type Output = ScalesAndOffsets;
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
                let mut all = ScalesAndOffsets { scale: [0.0; LANES], offset: [0.0; LANES] };
                for group in 0..groups::<S>() {
                    let fitted = self.0.fit_group(simd, &self.1.group(simd, group));
                    fitted.scale.store(&mut all.scale, group);
                    fitted.offset.store(&mut all.offset, group);
                }
                all
            }
        }
        arch.dispatch(Op(self, tile))
    }

    /// The fit of one group of sub-blocks.
    #[inline(always)]
    pub(super) fn fit_group<S: Simd, const N: usize>(&self, simd: S, group: &Group<S, N>) -> Fitted<S> {
        let splat = |value| F32::splat(simd, value);
        let zero = splat(0.0);
        let (mut least, mut most) = (group.x[0], group.x[0]);
        let mut sums = Sums { w: zero, x: zero, q: zero, qq: zero, xq: zero };
        for i in 0..N {
            least = least.min(group.x[i]);
            most = most.max(group.x[i]);
            sums.w = sums.w + group.w[i];
            sums.x = sums.x + group.w[i] * group.x[i];
        }
        if self.offset == Offset::NotPositive {
            least = least.min(zero);
        }
        let range = most - least;
        let spread = range.gt(zero);
        let inverse_range = spread.select(splat(1.0) / spread.select(range, splat(1.0)), zero);

        let mut best = self.least_squares(simd, sums);
        for (below, above) in self.trials {
            let inverse = splat(self.highest + below + above) * inverse_range;
            let shift = zero - least * inverse - splat(*below);
            best = best.or(self.least_squares(simd, self.levels_of(simd, group, sums, inverse, shift)));
        }
        for _ in 0..self.refits {
            best = self.refit(simd, group, best);
        }
        best
    }

    /// Levels under the scale and offset of `from`, and the best scale and offset for those.
    #[inline(always)]
    fn refit<S: Simd, const N: usize>(&self, simd: S, group: &Group<S, N>, from: Fitted<S>) -> Fitted<S> {
        let levels = self.level_sums(simd, group, from.scale, from.offset);
        from.or(self.least_squares(simd, Sums { w: from.sums.w, x: from.sums.x, ..levels }))
    }

    /// The sums over the levels under a given scale and offset; Σ w and Σ w x are left at 0.
    #[inline(always)]
    pub(super) fn level_sums<S: Simd, const N: usize>(
        &self,
        simd: S,
        group: &Group<S, N>,
        scale: F32<S>,
        offset: F32<S>,
    ) -> Sums<S> {
        let (zero, one) = (F32::splat(simd, 0.0), F32::splat(simd, 1.0));
        let positive = scale.gt(zero);
        let inverse = positive.select(one / positive.select(scale, one), zero);
        let totals = Sums { w: zero, x: zero, q: zero, qq: zero, xq: zero };
        self.levels_of(simd, group, totals, inverse, zero - offset * inverse)
    }

    /// The sums over the levels round(x · inverse + shift).
    #[inline(always)]
    fn levels_of<S: Simd, const N: usize>(
        &self,
        simd: S,
        group: &Group<S, N>,
        totals: Sums<S>,
        inverse: F32<S>,
        shift: F32<S>,
    ) -> Sums<S> {
        let zero = F32::splat(simd, 0.0);
        let high = F32::splat(simd, self.highest);
        let (mut sum_q, mut sum_qq, mut sum_xq) = (zero, zero, zero);
        for i in 0..N {
            let q = (group.x[i] * inverse + shift).round_clamped(zero, high);
            let wq = group.w[i] * q;
            sum_q = sum_q + wq;
            sum_qq = sum_qq + wq * q;
            sum_xq = sum_xq + wq * group.x[i];
        }
        Sums { q: sum_q, qq: sum_qq, xq: sum_xq, ..totals }
    }

    /// Scale and offset that are best for the levels behind `sums`.
    #[inline(always)]
    fn least_squares<S: Simd>(&self, simd: S, sums: Sums<S>) -> Fitted<S> {
        let (zero, one) = (F32::splat(simd, 0.0), F32::splat(simd, 1.0));
        // Without an offset: through the origin. Also where all levels are the same.
        let any = sums.qq.gt(zero);
        let scale_alone = sums.xq / any.select(sums.qq, one);
        // Levels all 0: the offset alone.
        let mean = sums.x / sums.w;
        let offset_alone = any.select(zero, if self.offset == Offset::Free { mean } else { mean.min(zero) });

        let square = sums.w * sums.qq;
        let determinant = square - sums.q * sums.q;
        // Below this the determinant is rounding error of its terms.
        let mut both = determinant.gt(square * F32::splat(simd, 1e-5));
        let inverse = one / both.select(determinant, one);
        let scale = (sums.w * sums.xq - sums.x * sums.q) * inverse;
        let offset = (sums.qq * sums.x - sums.q * sums.xq) * inverse;
        if self.offset == Offset::NotPositive {
            both = both.and(zero.gt(offset));
        }
        let scale = both.select(scale, scale_alone);
        let offset = both.select(offset, offset_alone);
        Fitted { scale, offset, explained: scale * sums.xq + offset * sums.x, sums }
    }
}

/// Weighted sums over one sub-block: Σ w, Σ w x, Σ w q, Σ w q², Σ w x q.
#[derive(Clone, Copy)]
pub(super) struct Sums<S: Simd> {
    pub w: F32<S>,
    pub x: F32<S>,
    pub q: F32<S>,
    pub qq: F32<S>,
    pub xq: F32<S>,
}

/// Scales and offsets of a group of sub-blocks, and the sums they follow from.
#[derive(Clone, Copy)]
pub(super) struct Fitted<S: Simd> {
    pub scale: F32<S>,
    pub offset: F32<S>,
    pub sums: Sums<S>,
    /// Part of Σ w x² that s q + o explains.
    explained: F32<S>,
}

impl<S: Simd> Fitted<S> {
    /// Whichever explains more, `self` where both explain the same.
    #[inline(always)]
    fn or(self, other: Self) -> Self {
        let better = other.explained.gt(self.explained);
        let pick = |yes, no| better.select(yes, no);
        Fitted {
            scale: pick(other.scale, self.scale),
            offset: pick(other.offset, self.offset),
            explained: pick(other.explained, self.explained),
            sums: Sums {
                q: pick(other.sums.q, self.sums.q),
                qq: pick(other.sums.qq, self.sums.qq),
                xq: pick(other.sums.xq, self.sums.xq),
                ..self.sums
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::lanes::tests::{error, tile};
    use super::*;

    const TRIALS: &[(f32, f32)] =
        &[(0.0, 0.0), (0.3, 0.3), (-0.3, -0.3), (0.3, -0.3), (-0.3, 0.3), (0.5, 0.5)];
    const FOUR_BITS: Affine =
        Affine { highest: 15.0, offset: Offset::NotPositive, trials: TRIALS, refits: 2 };

    fn decode(fit: &Affine, scale: f32, offset: f32, x: f32) -> f32 {
        let q = if scale == 0.0 { 0.0 } else { ((x - offset) / scale).round_ties_even() };
        scale * q.clamp(0.0, fit.highest) + offset
    }

    #[test]
    fn never_worse_than_stretching_the_range() {
        for seed in 0..50 {
            for offset in [Offset::Free, Offset::NotPositive] {
                let fit = Affine { offset, ..FOUR_BITS };
                let mut tile = tile::<32>(seed);
                tile.x.iter_mut().for_each(|row| row[0] += 9.0);
                let fitted = fit.fit(Arch::new(), &tile);
                for lane in 0..LANES {
                    let values = tile.x.iter().map(|row| row[lane]);
                    let most = values.clone().fold(f32::MIN, f32::max);
                    let mut least = values.fold(f32::MAX, f32::min);
                    if offset == Offset::NotPositive {
                        assert!(fitted.offset[lane] <= 0.0);
                        least = least.min(0.0);
                    }
                    assert!(fitted.scale[lane] >= 0.0);
                    let found =
                        error(&tile, lane, |x| decode(&fit, fitted.scale[lane], fitted.offset[lane], x));
                    let naive = error(&tile, lane, |x| decode(&fit, (most - least) / 15.0, least, x));
                    assert!(found <= naive * 1.0001, "seed {seed} lane {lane}: {found} > {naive}");
                }
            }
        }
    }

    #[test]
    fn constant_sub_blocks_are_exact() {
        let mut tile = tile::<16>(3);
        for row in &mut tile.x {
            row[..4].copy_from_slice(&[0.0, -2.5, 2.5, 1e-20]);
        }
        for offset in [Offset::Free, Offset::NotPositive] {
            let fit = Affine { offset, ..FOUR_BITS };
            let fitted = fit.fit(Arch::new(), &tile);
            for lane in 0..4 {
                let left = error(&tile, lane, |x| decode(&fit, fitted.scale[lane], fitted.offset[lane], x));
                assert!(left < 1e-9, "lane {lane}: {left}");
            }
        }
    }

    #[test]
    fn every_instruction_set_agrees() {
        let tile = tile::<32>(4);
        let bits =
            |fitted: ScalesAndOffsets| (fitted.scale.map(f32::to_bits), fitted.offset.map(f32::to_bits));
        assert_eq!(bits(FOUR_BITS.fit(Arch::new(), &tile)), bits(FOUR_BITS.fit(Arch::Scalar, &tile)));
    }
}
