//! Super-blocks of Q2_K, Q4_K and Q5_K: x ≈ d · a · q − dmin · b with levels q ∈ 0..=highest, and one pair of
//! small integers (a, b) a sub-block, chosen so that Σ w (x − x̂)² is small as it will be stored.
//!
//! 1. Each sub-block gets its best real scale and offset ([`Affine`]).
//! 2. d and dmin are those under which rounding these costs least, in second order.
//! 3. Each sub-block tries the pairs (a, b) around and takes the one with the least true error: rounding has many
//!    local optima, and one that the integers hit is worth more than a better one that they miss.
//! 4. For the levels and pairs so found, d and dmin follow by least squares; step 3 again around the same pairs.
//!
//! ggml (`quantize_row_q4_K_ref`, `quantize_row_q4_K_impl` and their siblings) does 1 and 2 only, without regard
//! to how much a sub-block's error depends on its scale in the former.

use pulp::{Arch, Simd, WithSimd};

use super::affine::Affine;
use super::lanes::{F32, Group, LANES, Tile, groups, load};
use super::super_block::{Magnitude, fill_importance, fill_weights};
use crate::QK_K;
use crate::blocks::format::Importance;
use crate::blocks::k_scales::AffineScales;

/// The integers of a format, and how hard to look.
#[derive(Clone, Copy, Debug)]
pub struct AffineSuperBlock {
    /// Levels of the weights and the search for real scales.
    pub sub_block: Affine,
    /// Largest a and b.
    pub highest_code: f32,
    /// Step 3 tries a up to this far from its first value, and for each as many b.
    pub reach: (i32, i32),
    /// The same when step 3 is repeated.
    pub second_reach: (i32, i32),
}

/// What the codes of the largest scale and the largest minimum are tried to be, as a part of the highest code.
const TOP_CODES: [f32; LANES] =
    [1.0, 0.98, 0.96, 0.94, 0.92, 0.90, 0.88, 0.86, 0.84, 0.82, 1.02, 1.04, 1.06, 1.09, 1.12, 1.15];

/// What is known of each sub-block while a tile is fitted, in units of the block's magnitude.
#[derive(Clone)]
#[repr(align(64))]
struct State {
    /// Scale and minimum before rounding to codes.
    scale: [f32; LANES],
    min: [f32; LANES],
    /// Σ w q / Σ w: by how much the best minimum grows with the scale.
    mean_level: [f32; LANES],
    /// d and dmin of the sub-block's block.
    d: [f32; LANES],
    dmin: [f32; LANES],
    /// The codes a and b so far, and their error.
    a: [f32; LANES],
    b: [f32; LANES],
    error: [f32; LANES],
    /// Sums over the levels under these codes.
    sum_w: [f32; LANES],
    sum_x: [f32; LANES],
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
        const { assert!(N * S == QK_K && LANES.is_multiple_of(S)) };
        struct Op<'a, const N: usize, const S: usize>(
            &'a AffineSuperBlock,
            &'a [[f32; QK_K]],
            Importance<'a, QK_K>,
            &'a mut [AffineScales<S>],
        )
        where
            [u8; S]: Default;
        impl<const N: usize, const S: usize> WithSimd for Op<'_, N, S>
        where
            [u8; S]: Default,
        {
            type Output = ();
            #[inline(always)]
            fn with_simd<V: Simd>(self, simd: V) {
                let Op(search, x, importance, scales) = self;
                let mut tile = Tile::<N>::ZERO;
                for (t, (x, scales)) in x.chunks(LANES / S).zip(scales.chunks_mut(LANES / S)).enumerate() {
                    search.fit_tile(simd, &mut tile, x, importance.skip(t * (LANES / S)), scales);
                }
            }
        }
        Arch::new().dispatch(Op::<N, S>(self, x, importance, scales));
    }

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
        let mut state = self.real_scales(simd, tile);
        for i in 0..x.len() {
            self.choose_super_scales::<V, S>(simd, &mut state, i * S, magnitudes[i]);
        }
        self.search_codes(simd, tile, &mut state, self.reach);
        let first = state.clone();
        for i in 0..x.len() {
            refine_super_scales::<S>(&mut state, i * S, magnitudes[i]);
        }
        self.search_codes(simd, tile, &mut state, self.second_reach);

        for (i, scales) in scales.iter_mut().enumerate() {
            let lanes = i * S..(i + 1) * S;
            let total = |state: &State| state.error[lanes.clone()].iter().sum::<f32>();
            let state = if total(&state) < total(&first) { &state } else { &first };
            scales.d = magnitudes[i].to_f16(state.d[i * S]);
            scales.dmin = magnitudes[i].to_f16(state.dmin[i * S]);
            for (j, lane) in lanes.enumerate() {
                scales.scales[j] = state.a[lane] as u8;
                scales.mins[j] = state.b[lane] as u8;
            }
        }
    }

    /// Step 1.
    #[inline(always)]
    fn real_scales<V: Simd, const N: usize>(&self, simd: V, tile: &Tile<N>) -> State {
        let mut state = State {
            scale: ZERO,
            min: ZERO,
            mean_level: ZERO,
            d: ZERO,
            dmin: ZERO,
            a: ZERO,
            b: ZERO,
            error: ZERO,
            sum_w: ZERO,
            sum_x: ZERO,
            sum_q: ZERO,
            sum_qq: ZERO,
            sum_xq: ZERO,
        };
        for group in 0..groups::<V>() {
            let fitted = self.sub_block.fit_group(simd, &tile.group(simd, group));
            fitted.scale.store(&mut state.scale, group);
            (F32::splat(simd, 0.0) - fitted.offset).store(&mut state.min, group);
            let sums = fitted.sums;
            (sums.q / sums.w).store(&mut state.mean_level, group);
            sums.w.store(&mut state.sum_w, group);
            sums.x.store(&mut state.sum_x, group);
            sums.q.store(&mut state.sum_q, group);
            sums.qq.store(&mut state.sum_qq, group);
        }
        state
    }

    /// Step 2 for the block whose sub-blocks are lanes `first..first + S`.
    #[inline(always)]
    fn choose_super_scales<V: Simd, const S: usize>(
        &self,
        simd: V,
        state: &mut State,
        first: usize,
        magnitude: Magnitude,
    ) {
        let (mut targets, mut cost) = ([0.0; S], [0.0; S]);
        for (j, lane) in (first..first + S).enumerate() {
            targets[j] = state.scale[lane];
            // With the minimum free to follow.
            cost[j] = state.sum_qq[lane] - state.sum_q[lane] * state.mean_level[lane];
        }
        let d = magnitude.as_stored(self.cheapest_unit(simd, &targets, &cost));
        let inverse = if d > 0.0 { 1.0 / d } else { 0.0 };
        for (j, lane) in (first..first + S).enumerate() {
            let a = (state.scale[lane] * inverse).min(self.highest_code).round_ties_even();
            let min = state.min[lane] + (d * a - state.scale[lane]) * state.mean_level[lane];
            targets[j] = min.max(0.0);
            cost[j] = state.sum_w[lane];
        }
        let dmin = magnitude.as_stored(self.cheapest_unit(simd, &targets, &cost));
        for lane in first..first + S {
            state.d[lane] = d;
            state.dmin[lane] = dmin;
        }
    }

    /// The unit u for which Σ cost (target − u · code)² with codes 0..=highest is least among some.
    #[inline(always)]
    fn cheapest_unit<V: Simd, const S: usize>(&self, simd: V, targets: &[f32; S], cost: &[f32; S]) -> f32 {
        let most = targets.iter().fold(0.0f32, |a, b| if *b > a { *b } else { a });
        if most == 0.0 {
            return 0.0;
        }
        let (zero, highest) = (F32::splat(simd, 0.0), F32::splat(simd, self.highest_code));
        let mut totals = ZERO;
        for group in 0..groups::<V>() {
            let inverse = load(simd, &TOP_CODES, group) * F32::splat(simd, self.highest_code / most);
            let unit = F32::splat(simd, 1.0) / inverse;
            let mut total = zero;
            for (target, cost) in targets.iter().zip(cost) {
                let target = F32::splat(simd, *target);
                let left = target - unit * (target * inverse).round_clamped(zero, highest);
                total = total + F32::splat(simd, *cost) * left * left;
            }
            total.store(&mut totals, group);
        }
        let mut best = 0;
        for i in 1..LANES {
            if totals[i] < totals[best] {
                best = i;
            }
        }
        most / (self.highest_code * TOP_CODES[best])
    }

    /// Step 3: the codes with the least error within `reach` of those nearest to scale and minimum,
    /// and the sums over the levels under them.
    #[inline(always)]
    fn search_codes<V: Simd, const N: usize>(
        &self,
        simd: V,
        tile: &Tile<N>,
        state: &mut State,
        reach: (i32, i32),
    ) {
        let splat = |value| F32::splat(simd, value);
        let (zero, one) = (splat(0.0), splat(1.0));
        let highest_code = splat(self.highest_code);
        for g in 0..groups::<V>() {
            let group = tile.group(simd, g);
            let (d, dmin) = (load(simd, &state.d, g), load(simd, &state.dmin, g));
            let (scale, min) = (load(simd, &state.scale, g), load(simd, &state.min, g));
            let mean_level = load(simd, &state.mean_level, g);
            let inverse_d = d.gt(zero).select(one / d.gt(zero).select(d, one), zero);
            let inverse_dmin = dmin.gt(zero).select(one / dmin.gt(zero).select(dmin, one), zero);
            let nearest_a = (scale * inverse_d).round_clamped(zero, highest_code);

            let (mut best_a, mut best_b, mut best) = (zero, zero, splat(f32::MAX));
            for da in -reach.0..=reach.0 {
                let a = (nearest_a + splat(da as f32)).max(zero).min(highest_code);
                let min = min + (d * a - scale) * mean_level;
                let nearest_b = (min * inverse_dmin).round_clamped(zero, highest_code);
                for db in -reach.1..=reach.1 {
                    let b = (nearest_b + splat(db as f32)).max(zero).min(highest_code);
                    let error = self.error(simd, &group, d * a, dmin * b);
                    let better = best.gt(error);
                    best = better.select(error, best);
                    best_a = better.select(a, best_a);
                    best_b = better.select(b, best_b);
                }
            }
            best_a.store(&mut state.a, g);
            best_b.store(&mut state.b, g);
            best.store(&mut state.error, g);
            let sums = self.sub_block.level_sums(simd, &group, d * best_a, zero - dmin * best_b);
            sums.q.store(&mut state.sum_q, g);
            sums.qq.store(&mut state.sum_qq, g);
            sums.xq.store(&mut state.sum_xq, g);
        }
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

/// Step 4: d and dmin by least squares for the levels and codes of the block in lanes `first..first + S`.
/// Scale and minimum become what the codes say, so that the next search is around them.
#[inline(always)]
fn refine_super_scales<const S: usize>(state: &mut State, first: usize, magnitude: Magnitude) {
    let (mut aa, mut ab, mut bb, mut xa, mut xb) = (0.0f32, 0.0f32, 0.0f32, 0.0f32, 0.0f32);
    for lane in first..first + S {
        let (a, b) = (state.a[lane], state.b[lane]);
        aa += a * a * state.sum_qq[lane];
        ab += a * b * state.sum_q[lane];
        bb += b * b * state.sum_w[lane];
        xa += a * state.sum_xq[lane];
        xb += b * state.sum_x[lane];
    }
    let determinant = aa * bb - ab * ab;
    let (mut d, mut dmin) = (state.d[first], state.dmin[first]);
    if determinant > 1e-5 * aa * bb {
        d = (xa * bb - xb * ab) / determinant;
        dmin = (xa * ab - xb * aa) / determinant;
    } else if bb == 0.0 && aa > 0.0 {
        d = xa / aa;
    }
    if !(d > 0.0 && dmin >= 0.0) {
        (d, dmin) = (state.d[first], state.dmin[first]);
    }
    (d, dmin) = (magnitude.as_stored(d), magnitude.as_stored(dmin));
    for lane in first..first + S {
        state.d[lane] = d;
        state.dmin[lane] = dmin;
        state.scale[lane] = d * state.a[lane];
        state.min[lane] = dmin * state.b[lane];
        state.mean_level[lane] = state.sum_q[lane] / state.sum_w[lane];
    }
}
