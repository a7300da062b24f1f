//! x ≈ s · v with v from an ascending table of sixteen numbers: the scale s, of either sign, that minimises
//! Σ w (x − s v)².
//!
//! As for integer levels (`symmetric`), the best scale for given entries is Σ w x v / Σ w v². Scales that bring
//! the largest |x| near either end of the table are tried, and the best is refined by choosing entries and
//! scale in turn (ggml's `quantize_row_iq4_nl_impl` tries one end and does not refine).

use pulp::{Arch, Simd, WithSimd};

use super::lanes::{F32, Group, LANES, Tile, groups};

/// The table, and how hard to look for the scale.
#[derive(Clone, Copy, Debug)]
pub struct Codebook {
    /// Ascending, the first negative and the last positive.
    pub table: [f32; 16],
    /// Where the largest |x| is brought to, one trial each; negative entries bring it to the negative end.
    pub trials: &'static [f32],
    /// Refinements of the best trial.
    pub refits: usize,
}

/// Scales of sub-blocks, and how much they matter.
#[derive(Clone, Copy, Debug)]
pub struct Scales {
    /// s.
    pub scale: [f32; LANES],
    /// Σ w v²: the error under the same entries and another scale s′ is larger by this · (s′ − s)².
    pub curvature: [f32; LANES],
}

impl Codebook {
    /// The scale of each sub-block, as far as f32 carries it; 0 for a sub-block of zeros.
    pub fn fit<const N: usize>(&self, arch: Arch, tile: &Tile<N>) -> Scales {
        struct Op<'a, const N: usize>(&'a Codebook, &'a Tile<N>);
        impl<const N: usize> WithSimd for Op<'_, N> {
            type Output = Scales;
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
                self.0.fit_with(simd, self.1)
            }
        }
        arch.dispatch(Op(self, tile))
    }

    /// [`fit`](Self::fit) for those who have dispatched already.
    #[inline(always)]
    pub(super) fn fit_with<S: Simd, const N: usize>(&self, simd: S, tile: &Tile<N>) -> Scales {
        let mut scales = Scales { scale: [0.0; LANES], curvature: [0.0; LANES] };
        for group in 0..groups::<S>() {
            let fitted = self.fit_group(simd, &tile.group(simd, group));
            fitted.scale.store(&mut scales.scale, group);
            fitted.curvature.store(&mut scales.curvature, group);
        }
        scales
    }

    #[inline(always)]
    fn fit_group<S: Simd, const N: usize>(&self, simd: S, group: &Group<S, N>) -> Fitted<S> {
        let (zero, one) = (F32::splat(simd, 0.0), F32::splat(simd, 1.0));
        let (mut least, mut most) = (zero, zero);
        for x in group.x {
            least = least.min(x);
            most = most.max(x);
        }
        let extreme = most.gt(zero - least).select(most, least);
        let nonzero = (extreme * extreme).gt(zero);
        let inverse_extreme = nonzero.select(one / nonzero.select(extreme, one), zero);

        let mut best = Fitted { scale: zero, curvature: zero, explained: zero };
        for trial in self.trials {
            best = best.or(self.entries_of(simd, group, inverse_extreme * F32::splat(simd, *trial)));
        }
        for _ in 0..self.refits {
            let fitted = (best.scale * best.scale).gt(zero);
            let inverse = fitted.select(one / fitted.select(best.scale, one), zero);
            best = best.or(self.entries_of(simd, group, inverse));
        }
        best
    }

    /// The best scale for the entries nearest to x · inverse.
    #[inline(always)]
    fn entries_of<S: Simd, const N: usize>(
        &self,
        simd: S,
        group: &Group<S, N>,
        inverse: F32<S>,
    ) -> Fitted<S> {
        let zero = F32::splat(simd, 0.0);
        let (mut xv, mut vv) = (zero, zero);
        for (x, w) in group.x.into_iter().zip(group.w) {
            let v = self.nearest(simd, x * inverse);
            let wv = w * v;
            xv = xv + wv * x;
            vv = vv + wv * v;
        }
        let any = vv.gt(zero);
        let scale = any.select(xv / any.select(vv, F32::splat(simd, 1.0)), zero);
        Fitted { scale, curvature: vv, explained: scale * xv }
    }

    /// What the given scale leaves, and the sums over its entries.
    #[inline(always)]
    pub(super) fn terms<S: Simd, const N: usize>(
        &self,
        simd: S,
        group: &Group<S, N>,
        scale: F32<S>,
    ) -> Terms<S> {
        let (zero, one) = (F32::splat(simd, 0.0), F32::splat(simd, 1.0));
        let fitted = (scale * scale).gt(zero);
        let inverse = fitted.select(one / fitted.select(scale, one), zero);
        let mut terms = Terms { error: zero, xv: zero, vv: zero };
        for (x, w) in group.x.into_iter().zip(group.w) {
            let v = self.nearest(simd, x * inverse);
            let left = x - scale * v;
            let wv = w * v;
            terms.error = terms.error + w * left * left;
            terms.xv = terms.xv + wv * x;
            terms.vv = terms.vv + wv * v;
        }
        terms
    }

    /// The entry nearest to `y`, found by passing every midpoint: a comparison and a choice each, no lookup.
    #[inline(always)]
    fn nearest<S: Simd>(&self, simd: S, y: F32<S>) -> F32<S> {
        let mut entry = F32::splat(simd, self.table[0]);
        for i in 1..16 {
            let middle = F32::splat(simd, 0.5 * (self.table[i - 1] + self.table[i]));
            entry = y.gt(middle).select(F32::splat(simd, self.table[i]), entry);
        }
        entry
    }
}

/// Sums over one sub-block under a given scale.
#[derive(Clone, Copy)]
pub(super) struct Terms<S: Simd> {
    /// Σ w (x − s v)².
    pub error: F32<S>,
    /// Σ w x v.
    pub xv: F32<S>,
    /// Σ w v².
    pub vv: F32<S>,
}

impl<S: Simd> Terms<S> {
    /// Whichever leaves less, `self` where both leave the same.
    #[inline(always)]
    pub(super) fn or(self, other: Self) -> Self {
        let better = self.error.gt(other.error);
        Terms {
            error: better.select(other.error, self.error),
            xv: better.select(other.xv, self.xv),
            vv: better.select(other.vv, self.vv),
        }
    }
}

#[derive(Clone, Copy)]
struct Fitted<S: Simd> {
    scale: F32<S>,
    curvature: F32<S>,
    /// Part of Σ w x² that s v explains.
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

    const SEARCH: Codebook = Codebook {
        table: [
            -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0,
            89.0, 113.0,
        ],
        trials: &[-127.0, 113.0],
        refits: 1,
    };

    /// The entry nearest to x / scale, by looking at every one.
    fn decode(scale: f32, x: f32) -> f32 {
        let distance = |v: &f32| (scale * v - x).abs();
        scale * SEARCH.table.iter().copied().min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap()
    }

    #[test]
    fn never_worse_than_mapping_the_largest_to_either_end() {
        for seed in 0..50 {
            let tile = tile::<32>(seed);
            let scale = SEARCH.fit(Arch::new(), &tile).scale;
            for lane in 0..LANES {
                let extreme =
                    tile.x.iter().map(|row| row[lane]).max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap();
                let left = |scale: f32| error(&tile, lane, |x| decode(scale, x));
                for end in [-127.0, 113.0] {
                    assert!(left(scale[lane]) <= left(extreme / end) * 1.000_01, "seed {seed} lane {lane}");
                }
            }
        }
    }

    #[test]
    fn zeros_have_scale_zero_and_every_instruction_set_agrees() {
        let mut tile = tile::<32>(2);
        tile.x.iter_mut().for_each(|row| row[5] = 0.0);
        let scale = SEARCH.fit(Arch::new(), &tile).scale;
        assert_eq!(scale[5], 0.0);
        assert_eq!(scale.map(f32::to_bits), SEARCH.fit(Arch::Scalar, &tile).scale.map(f32::to_bits));
    }
}
