//! Super-blocks of Q2_K, Q4_K and Q5_K: x ≈ d · a · q − dmin · b with levels q ∈ 0..=highest, and one pair of
//! small integers (a, b) a sub-block, chosen so that Σ w (x − x̂)² is small as it will be stored.
//!
//! 1. Each sub-block gets its best real scale and offset ([`Affine`]).
//! 2. d, then dmin, is the unit under which rounding these costs least, in second order.
//! 3. Each sub-block tries the pairs (a, b) around and takes the one with the least true error. Rounding has very
//!    many local optima, and the best of those that the integers hit is better than a good one rounded to them.
//! 4. For the levels and pairs so found d and dmin follow by least squares.
//!
//! ggml (`quantize_row_q4_K_ref`, `quantize_row_q4_K_impl` and their siblings) does 1 and 2 only, and without
//! importance it weighs errors by |x| and does not ask in 2 how much they depend on a sub-block's scale.

use pulp::{Arch, Simd, WithSimd};

use super::affine::Affine;
use super::lanes::{F32, Group, LANES, Tile, groups, load};
use super::super_block::{Magnitude, fill_importance, fill_weights};
use super::unit::{TopCodes, cheapest_unit};
use crate::QK_K;
use crate::blocks::format::{Importance, round_ties_even};
use crate::blocks::k_scales::AffineScales;

/// The integers of a format, and how hard to look for them.
#[derive(Clone, Copy, Debug)]
pub struct AffineSuperBlock {
    /// Largest a and b.
    pub highest_code: f32,
    /// The search where all weights count alike.
    pub plain: AffineSearch,
    /// The search under an importance, which makes the error rougher.
    pub weighted: AffineSearch,
}

/// How hard to look.
#[derive(Clone, Copy, Debug)]
pub struct AffineSearch {
    /// Levels of the weights and the search for real scales and offsets.
    pub sub_block: Affine,
    /// What the codes of the largest scale and the largest minimum are tried to be in step 2.
    pub top_codes: &'static [TopCodes],
    /// How much below the rounded scale step 3 tries a.
    pub finer: i32,
    /// How much above.
    pub coarser: i32,
    /// How far to either side of the best real minimum under a it tries b.
    pub min_reach: i32,
}

/// The sub-blocks of a tile, in units of their block's magnitude.
#[repr(align(64))]
struct Real {
    scale: [f32; LANES],
    min: [f32; LANES],
    /// Σ w q / Σ w: by how much the best minimum grows with the scale.
    mean_level: [f32; LANES],
    sum_w: [f32; LANES],
    sum_x: [f32; LANES],
    sum_q: [f32; LANES],
    sum_qq: [f32; LANES],
}

/// d and dmin of each lane's block.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Units {
    d: [f32; LANES],
    dmin: [f32; LANES],
}

/// The pairs (a, b) of a tile.
#[repr(align(64))]
struct Choice {
    a: [f32; LANES],
    b: [f32; LANES],
    error: [f32; LANES],
    /// Σ w q, Σ w q² and Σ w x q over the levels under these pairs.
    sum_q: [f32; LANES],
    sum_qq: [f32; LANES],
    sum_xq: [f32; LANES],
}

const ZERO: [f32; LANES] = [0.0; LANES];

impl AffineSuperBlock {
    /// Chooses the scales of whole blocks of `S` sub-blocks of `N` weights.
    pub fn fit<const N: usize, const S: usize>(
        &self,
        x: &[[f32; QK_K]],
        importance: Importance<QK_K>,
        scales: &mut [AffineScales<S>],
    ) where
        [u8; S]: Default,
    {
        self.fit_on::<N, S>(Arch::new(), x, importance, scales);
    }

    fn fit_on<const N: usize, const S: usize>(
        &self,
        arch: Arch,
        x: &[[f32; QK_K]],
        importance: Importance<QK_K>,
        scales: &mut [AffineScales<S>],
    ) where
        [u8; S]: Default,
    {
        const { assert!(N * S == QK_K && LANES.is_multiple_of(S)) };
        struct Op<'a, const N: usize, const S: usize>
        where
            [u8; S]: Default,
        {
            search: &'a AffineSuperBlock,
            x: &'a [[f32; QK_K]],
            importance: Importance<'a, QK_K>,
            scales: &'a mut [AffineScales<S>],
        }
        impl<const N: usize, const S: usize> WithSimd for Op<'_, N, S>
        where
            [u8; S]: Default,
        {
            type Output = ();
            #[inline(always)]
            fn with_simd<V: Simd>(self, simd: V) {
                let mut tile = Tile::<N>::ZERO;
                let blocks = LANES / S;
                for (t, (x, scales)) in self.x.chunks(blocks).zip(self.scales.chunks_mut(blocks)).enumerate()
                {
                    let importance = self.importance.skip(t * blocks);
                    self.search.fit_tile(simd, &mut tile, x, importance, scales);
                }
            }
        }
        arch.dispatch(Op::<N, S> { search: self, x, importance, scales });
    }

    /// The scales of as many blocks as a tile holds, or fewer.
    #[inline(always)]
    fn fit_tile<V: Simd, const N: usize, const S: usize>(
        &self,
        simd: V,
        tile: &mut Tile<N>,
        x: &[[f32; QK_K]],
        importance: Importance<QK_K>,
        scales: &mut [AffineScales<S>],
    ) where
        [u8; S]: Default,
    {
        let mut magnitudes = [Magnitude::ZERO; LANES];
        for (i, x) in x.iter().enumerate() {
            magnitudes[i] = Magnitude::of(x);
            fill_weights(tile, i * S, x, magnitudes[i]);
            if let Some(importance) = importance.of(i) {
                fill_importance(tile, i * S, importance);
            }
        }
        let how = if importance.is_uniform() { &self.plain } else { &self.weighted };
        let real = how.real_scales(simd, tile);
        let mut units = Units { d: ZERO, dmin: ZERO };
        for i in 0..x.len() {
            self.choose_units::<V, S>(simd, how, &real, i * S, magnitudes[i], &mut units);
        }
        let choice = self.search_codes(simd, tile, how, &real, &units);

        let mut refined = units;
        for i in 0..x.len() {
            choice.refine_units::<S>(&real, i * S, magnitudes[i], &mut refined);
        }
        let mut error = ZERO;
        for g in 0..groups::<V>() {
            let scale = load(simd, &refined.d, g) * load(simd, &choice.a, g);
            let min = load(simd, &refined.dmin, g) * load(simd, &choice.b, g);
            how.error(simd, &tile.group(simd, g), scale, min).store(&mut error, g);
        }
        for (i, scales) in scales.iter_mut().enumerate() {
            let lanes = i * S..(i + 1) * S;
            let better =
                error[lanes.clone()].iter().sum::<f32>() < choice.error[lanes.clone()].iter().sum::<f32>();
            let units = if better { &refined } else { &units };
            scales.d = magnitudes[i].to_f16(units.d[i * S]);
            scales.dmin = magnitudes[i].to_f16(units.dmin[i * S]);
            for (j, lane) in lanes.enumerate() {
                scales.scales[j] = choice.a[lane] as u8;
                scales.mins[j] = choice.b[lane] as u8;
            }
        }
    }

    /// Step 2 for the block whose sub-blocks are lanes `first..first + S`.
    #[inline(always)]
    fn choose_units<V: Simd, const S: usize>(
        &self,
        simd: V,
        how: &AffineSearch,
        real: &Real,
        first: usize,
        magnitude: Magnitude,
        units: &mut Units,
    ) {
        let codes = (0.0, self.highest_code);
        let (mut targets, mut cost) = ([0.0; S], [0.0; S]);
        for (j, lane) in (first..first + S).enumerate() {
            targets[j] = real.scale[lane];
            // With the minimum free to follow.
            cost[j] = (real.sum_qq[lane] - real.sum_q[lane] * real.mean_level[lane]).max(0.0);
        }
        let d = magnitude.as_stored(cheapest_unit(simd, &targets, &cost, codes, how.top_codes));
        let inverse = if d > 0.0 { 1.0 / d } else { 0.0 };
        for (j, lane) in (first..first + S).enumerate() {
            let a = round_ties_even((real.scale[lane] * inverse).min(self.highest_code));
            let min = real.min[lane] + (d * a - real.scale[lane]) * real.mean_level[lane];
            targets[j] = min.max(0.0);
            cost[j] = real.sum_w[lane];
        }
        let dmin = magnitude.as_stored(cheapest_unit(simd, &targets, &cost, codes, how.top_codes));
        units.d[first..first + S].fill(d);
        units.dmin[first..first + S].fill(dmin);
    }

    /// Step 3.
    #[inline(always)]
    fn search_codes<V: Simd, const N: usize>(
        &self,
        simd: V,
        tile: &Tile<N>,
        how: &AffineSearch,
        real: &Real,
        units: &Units,
    ) -> Choice {
        let splat = |value| F32::splat(simd, value);
        let (zero, one) = (splat(0.0), splat(1.0));
        let inverse = |v: F32<V>| v.gt(zero).select(one / v.gt(zero).select(v, one), zero);
        let highest_code = splat(self.highest_code);
        let mut choice = Choice { a: ZERO, b: ZERO, error: ZERO, sum_q: ZERO, sum_qq: ZERO, sum_xq: ZERO };
        for g in 0..groups::<V>() {
            let group = tile.group(simd, g);
            let (d, dmin) = (load(simd, &units.d, g), load(simd, &units.dmin, g));
            let (scale, min) = (load(simd, &real.scale, g), load(simd, &real.min, g));
            let mean_level = load(simd, &real.mean_level, g);
            let inverse_dmin = inverse(dmin);
            let nearest_a = (scale * inverse(d)).round_clamped(zero, highest_code);

            let (mut best_a, mut best_b, mut best) = (zero, zero, splat(f32::MAX));
            for da in -how.finer..=how.coarser {
                let a = (nearest_a + splat(da as f32)).max(zero).min(highest_code);
                let min = min + (d * a - scale) * mean_level;
                let nearest_b = (min * inverse_dmin).round_clamped(zero, highest_code);
                for db in -how.min_reach..=how.min_reach {
                    let b = (nearest_b + splat(db as f32)).max(zero).min(highest_code);
                    let error = how.error(simd, &group, d * a, dmin * b);
                    let better = best.gt(error);
                    best = better.select(error, best);
                    best_a = better.select(a, best_a);
                    best_b = better.select(b, best_b);
                }
            }
            best_a.store(&mut choice.a, g);
            best_b.store(&mut choice.b, g);
            best.store(&mut choice.error, g);
            let sums = how.sub_block.level_sums(simd, &group, d * best_a, zero - dmin * best_b);
            sums.q.store(&mut choice.sum_q, g);
            sums.qq.store(&mut choice.sum_qq, g);
            sums.xq.store(&mut choice.sum_xq, g);
        }
        choice
    }
}

impl AffineSearch {
    /// Step 1.
    #[inline(always)]
    fn real_scales<V: Simd, const N: usize>(&self, simd: V, tile: &Tile<N>) -> Real {
        let mut real = Real {
            scale: ZERO,
            min: ZERO,
            mean_level: ZERO,
            sum_w: ZERO,
            sum_x: ZERO,
            sum_q: ZERO,
            sum_qq: ZERO,
        };
        for group in 0..groups::<V>() {
            let fitted = self.sub_block.fit_group(simd, &tile.group(simd, group));
            let sums = fitted.sums;
            fitted.scale.store(&mut real.scale, group);
            (F32::splat(simd, 0.0) - fitted.offset).store(&mut real.min, group);
            (sums.q / sums.w).store(&mut real.mean_level, group);
            sums.w.store(&mut real.sum_w, group);
            sums.x.store(&mut real.sum_x, group);
            sums.q.store(&mut real.sum_q, group);
            sums.qq.store(&mut real.sum_qq, group);
        }
        real
    }

    /// Σ w (x − x̂)² under the given scale and minimum.
    #[inline(always)]
    fn error<V: Simd, const N: usize>(
        &self,
        simd: V,
        group: &Group<V, N>,
        scale: F32<V>,
        min: F32<V>,
    ) -> F32<V> {
        let (zero, one) = (F32::splat(simd, 0.0), F32::splat(simd, 1.0));
        // In units of the scale; where that is 0, in units of 1 with level 0 only.
        let positive = scale.gt(zero);
        let unit = positive.select(scale, one);
        let high = positive.select(F32::splat(simd, self.sub_block.highest), zero);
        let inverse = one / unit;
        let shift = min * inverse;
        let mut total = zero;
        for i in 0..N {
            let y = group.x[i] * inverse + shift;
            let left = y - y.round_clamped(zero, high);
            total = total + group.w[i] * left * left;
        }
        total * unit * unit
    }
}

impl Choice {
    /// Step 4 for the block in lanes `first..first + S`; the units stay where least squares has no answer.
    #[inline(always)]
    fn refine_units<const S: usize>(
        &self,
        real: &Real,
        first: usize,
        magnitude: Magnitude,
        units: &mut Units,
    ) {
        let (mut aa, mut ab, mut bb, mut xa, mut xb) = (0.0f32, 0.0f32, 0.0f32, 0.0f32, 0.0f32);
        for lane in first..first + S {
            let (a, b) = (self.a[lane], self.b[lane]);
            aa += a * a * self.sum_qq[lane];
            ab += a * b * self.sum_q[lane];
            bb += b * b * real.sum_w[lane];
            xa += a * self.sum_xq[lane];
            xb += b * real.sum_x[lane];
        }
        let determinant = aa * bb - ab * ab;
        let (d, dmin) = if determinant > 1e-5 * aa * bb {
            ((xa * bb - xb * ab) / determinant, (xa * ab - xb * aa) / determinant)
        } else if bb == 0.0 && aa > 0.0 {
            (xa / aa, 0.0)
        } else {
            return;
        };
        if d > 0.0 && dmin >= 0.0 {
            units.d[first..first + S].fill(magnitude.as_stored(d));
            units.dmin[first..first + S].fill(magnitude.as_stored(dmin));
        }
    }
}

#[cfg(test)]
mod tests;
