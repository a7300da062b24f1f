//! x ≈ s · q with integer levels q ∈ lowest..=highest: the scale s, of either sign, that minimises
//! Σ w (x − s q)².
//!
//! For given levels the best scale is Σ w x q / Σ w q², which leaves Σ w x² − (Σ w x q)² / Σ w q².
//! So inverse scales around the two that map the largest |x| to either end of the levels are tried,
//! and from the best one levels and scale are refined in turn until nothing is gained
//! (ggml's `make_qx_quants` tries one end only and does not refine).

use pulp::{Arch, Simd, WithSimd};

use super::lanes::{F32, Group, LANES, Tile, groups};

/// The levels codes stand for, and how hard to look for the scale.
#[derive(Clone, Copy, Debug)]
pub struct Symmetric {
    /// Smallest level, negative.
    pub lowest: f32,
    /// Largest level, positive.
    pub highest: f32,
    /// Levels by which the largest |x| is moved inwards (positive) or outwards (negative) of the
    /// end of the range; each is tried at both ends.
    pub trials: &'static [f32],
    /// Refinements of the best trial.
    pub refits: usize,
}

impl Symmetric {
    /// The scale of each sub-block, as far as f32 carries it; 0 for a sub-block of zeros.
    pub fn fit<const N: usize>(&self, arch: Arch, tile: &Tile<N>) -> [f32; LANES] {
        struct Op<'a, const N: usize>(&'a Symmetric, &'a Tile<N>);
        impl<const N: usize> WithSimd for Op<'_, N> {
            type Output = [f32; LANES];
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
                let mut scale = [0.0; LANES];
                for group in 0..groups::<S>() {
                    let fitted = self.0.fit_group(simd, &self.1.group(simd, group));
                    fitted.scale.store(&mut scale, group);
                }
                scale
            }
        }
        arch.dispatch(Op(self, tile))
    }

    /// The fit of one group of sub-blocks.
    #[inline(always)]
    pub(super) fn fit_group<S: Simd, const N: usize>(&self, simd: S, group: &Group<S, N>) -> Fitted<S> {
        let zero = F32::splat(simd, 0.0);
        let (mut least, mut most) = (zero, zero);
        for x in group.x {
            least = least.min(x);
            most = most.max(x);
        }
        let extreme = most.gt(zero - least).select(most, least);
        let nonzero = (extreme * extreme).gt(zero);
        let inverse_extreme = F32::splat(simd, 1.0) / nonzero.select(extreme, F32::splat(simd, 1.0));

        let mut best = Fitted { scale: zero, curvature: zero, explained: zero };
        for end in [self.lowest, self.highest] {
            for inward in self.trials {
                let level = end - inward * end.signum();
                best = best.or(self.levels_of(simd, group, inverse_extreme * F32::splat(simd, level)));
            }
        }
        for _ in 0..self.refits {
            best = self.refit(simd, group, best);
        }
        best
    }

    /// Levels under the scale of `from`, and the best scale for those.
    #[inline(always)]
    fn refit<S: Simd, const N: usize>(&self, simd: S, group: &Group<S, N>, from: Fitted<S>) -> Fitted<S> {
        from.or(self.levels_of(simd, group, inverse_of(simd, from.scale)))
    }

    /// Σ w x q and Σ w q² for the levels under a given scale.
    #[inline(always)]
    pub(super) fn level_sums<S: Simd, const N: usize>(
        &self,
        simd: S,
        group: &Group<S, N>,
        scale: F32<S>,
    ) -> (F32<S>, F32<S>) {
        self.sums_of(simd, group, inverse_of(simd, scale))
    }

    /// The best scale for the levels that `inverse` scales x to.
    #[inline(always)]
    fn levels_of<S: Simd, const N: usize>(&self, simd: S, group: &Group<S, N>, inverse: F32<S>) -> Fitted<S> {
        let (xq, qq) = self.sums_of(simd, group, inverse);
        let any = qq.gt(F32::splat(simd, 0.0));
        let scale = xq / any.select(qq, F32::splat(simd, 1.0));
        Fitted { scale, curvature: qq, explained: scale * xq }
    }

    /// Σ w x q and Σ w q² for the levels round(x · inverse).
    #[inline(always)]
    fn sums_of<S: Simd, const N: usize>(
        &self,
        simd: S,
        group: &Group<S, N>,
        inverse: F32<S>,
    ) -> (F32<S>, F32<S>) {
        let zero = F32::splat(simd, 0.0);
        let (low, high) = (F32::splat(simd, self.lowest), F32::splat(simd, self.highest));
        let (mut xq, mut qq) = (zero, zero);
        for i in 0..N {
            let q = (group.x[i] * inverse).round_clamped(low, high);
            let wq = group.w[i] * q;
            xq = xq + wq * group.x[i];
            qq = qq + wq * q;
        }
        (xq, qq)
    }
}

/// 1 / scale, 0 for 0.
#[inline(always)]
fn inverse_of<S: Simd>(simd: S, scale: F32<S>) -> F32<S> {
    let (zero, one) = (F32::splat(simd, 0.0), F32::splat(simd, 1.0));
    let nonzero = (scale * scale).gt(zero);
    nonzero.select(one / nonzero.select(scale, one), zero)
}

/// Scales of a group of sub-blocks.
#[derive(Clone, Copy)]
pub(super) struct Fitted<S: Simd> {
    /// s.
    pub scale: F32<S>,
    /// Σ w q²: the error under the same levels and another scale s′ is larger by this · (s′ − s)².
    pub curvature: F32<S>,
    /// Part of Σ w x² that s q explains.
    explained: F32<S>,
}

impl<S: Simd> Fitted<S> {
    /// Whichever explains more, `self` where both explain the same.
    #[inline(always)]
    fn or(self, other: Self) -> Self {
        let better = other.explained.gt(self.explained);
        Fitted {
            scale: better.select(other.scale, self.scale),
            curvature: better.select(other.curvature, self.curvature),
            explained: better.select(other.explained, self.explained),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::lanes::tests::{error, tile};
    use super::*;

    const THREE_BITS: Symmetric = Symmetric {
        lowest: -4.0,
        highest: 3.0,
        trials: &[-0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0],
        refits: 2,
    };

    fn decode(fit: &Symmetric, scale: f32, x: f32) -> f32 {
        if scale == 0.0 { 0.0 } else { scale * (x / scale).round_ties_even().clamp(fit.lowest, fit.highest) }
    }

    #[test]
    fn never_worse_than_mapping_the_largest_to_the_end() {
        for seed in 0..50 {
            let tile = tile::<16>(seed);
            let scale = THREE_BITS.fit(Arch::new(), &tile);
            for lane in 0..LANES {
                let extreme =
                    tile.x.iter().map(|row| row[lane]).max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap();
                let fitted = error(&tile, lane, |x| decode(&THREE_BITS, scale[lane], x));
                let naive = error(&tile, lane, |x| decode(&THREE_BITS, -extreme / 4.0, x));
                assert!(fitted <= naive * 1.00001, "seed {seed} lane {lane}: {fitted} > {naive}");
            }
        }
    }

    #[test]
    fn values_on_a_grid_are_found_again() {
        let mut tile = tile::<16>(1);
        for lane in 0..LANES {
            let scale = (lane as f32 - 7.5) * 0.3;
            for i in 0..16 {
                tile.x[i][lane] = scale * ((i * 5) % 8) as f32 - scale * 4.0;
            }
        }
        let scale = THREE_BITS.fit(Arch::new(), &tile);
        for lane in 0..LANES {
            assert!(error(&tile, lane, |x| decode(&THREE_BITS, scale[lane], x)) < 1e-9);
        }
    }

    #[test]
    fn zeros_have_scale_zero_and_every_instruction_set_agrees() {
        let mut tile = tile::<32>(2);
        tile.x.iter_mut().for_each(|row| row[5] = 0.0);
        let scale = THREE_BITS.fit(Arch::new(), &tile);
        assert_eq!(scale[5], 0.0);
        assert_eq!(scale.map(f32::to_bits), THREE_BITS.fit(Arch::Scalar, &tile).map(f32::to_bits));
    }
}
