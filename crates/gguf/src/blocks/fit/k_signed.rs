//! Super-blocks of Q3_K and Q6_K: x ≈ d · a · q with levels q ∈ lowest..=highest and one small signed integer a a
//! sub-block, chosen so that Σ w (x − x̂)² is small as it will be stored.
//!
//! 1. Each sub-block gets its best real scale ([`Symmetric`]).
//! 2. d is the unit under which rounding these costs least, in second order. Its sign is that which gives the
//!    largest scale the longer side of the codes.
//! 3. Each sub-block tries the codes around, of either sign, and takes the one with the least true error: rounding
//!    has many local optima, and one that the integers hit is worth more than a better one that they miss.
//! 4. For the levels and codes so found d follows by least squares; step 3 again around the same codes.
//!
//! ggml (`quantize_row_q6_K_ref`, `quantize_row_q3_K_impl` and their siblings) does 1 and 2 only.

use pulp::{Arch, Simd, WithSimd};

use super::lanes::{F32, Group, LANES, Tile, groups, load};
use super::super_block::{Magnitude, fill_importance, fill_weights};
use super::symmetric::Symmetric;
use crate::QK_K;
use crate::blocks::format::Importance;
use crate::blocks::k_scales::SignedScales;

/// Weights a sub-block.
const N: usize = 16;

/// The integers of a format, and how hard to look.
#[derive(Clone, Copy, Debug)]
pub struct SignedSuperBlock {
    /// Levels of the weights and the search for real scales.
    pub sub_block: Symmetric,
    /// Smallest a, negative; the largest is one less in magnitude.
    pub lowest_code: f32,
    /// Step 3 tries a up to this far from its first value, and as many around its negative.
    pub reach: i32,
    /// How far it goes, with the same sign only, when step 3 is repeated.
    pub second_reach: i32,
}

/// What the code of the largest scale is tried to be, as a part of the lowest code.
const TOP_CODES: [f32; LANES] =
    [1.0, 0.98, 0.96, 0.94, 0.92, 0.90, 0.88, 0.86, 0.84, 0.82, 0.80, 0.78, 1.02, 1.04, 1.07, 1.1];

/// What is known of each sub-block while a super-block is fitted, in units of its magnitude.
#[derive(Clone)]
#[repr(align(64))]
struct State {
    d: f32,
    /// Scale before rounding to codes.
    scale: [f32; LANES],
    /// Σ w q², by which a scale's rounding costs.
    curvature: [f32; LANES],
    /// The codes so far, and their error.
    a: [f32; LANES],
    error: [f32; LANES],
    /// Σ w x q and Σ w q² over the levels under these codes.
    sum_xq: [f32; LANES],
    sum_qq: [f32; LANES],
}

const ZERO: [f32; LANES] = [0.0; LANES];

impl SignedSuperBlock {
    /// Chooses the scales of whole blocks.
    pub fn fit(&self, x: &[[f32; QK_K]], importance: Importance<QK_K>, scales: &mut [SignedScales]) {
        struct Op<'a>(&'a SignedSuperBlock, &'a [[f32; QK_K]], Importance<'a, QK_K>, &'a mut [SignedScales]);
        impl WithSimd for Op<'_> {
            type Output = ();
            #[inline(always)]
            fn with_simd<V: Simd>(self, simd: V) {
                let Op(search, x, importance, scales) = self;
                let mut tile = Tile::<N>::ZERO;
                for (i, (x, scales)) in x.iter().zip(scales).enumerate() {
                    let magnitude = Magnitude::of(x);
                    fill_weights(&mut tile, 0, x, magnitude);
                    if let Some(importance) = importance.of(i) {
                        fill_importance(&mut tile, 0, importance);
                    }
                    *scales = search.fit_tile(simd, &tile, magnitude);
                }
            }
        }
        Arch::new().dispatch(Op(self, x, importance, scales));
    }

    #[inline(always)]
    fn fit_tile<V: Simd>(&self, simd: V, tile: &Tile<N>, magnitude: Magnitude) -> SignedScales {
        let mut state =
            State { d: 0.0, scale: ZERO, curvature: ZERO, a: ZERO, error: ZERO, sum_xq: ZERO, sum_qq: ZERO };
        for group in 0..groups::<V>() {
            let fitted = self.sub_block.fit_group(simd, &tile.group(simd, group));
            fitted.scale.store(&mut state.scale, group);
            fitted.curvature.store(&mut state.curvature, group);
        }
        state.d = magnitude.as_stored(self.cheapest_unit(simd, &state));
        self.search_codes(simd, tile, &mut state, self.reach, true);
        let first = state.clone();
        self.refine_d(&mut state, magnitude);
        self.search_codes(simd, tile, &mut state, self.second_reach, false);

        let total = |state: &State| state.error.iter().sum::<f32>();
        let state = if total(&state) < total(&first) { &state } else { &first };
        SignedScales { d: magnitude.to_f16(state.d), scales: state.a.map(|a| a as i8) }
    }

    /// Step 2: the unit u for which Σ curvature (scale − u · code)² is least among some.
    #[inline(always)]
    fn cheapest_unit<V: Simd>(&self, simd: V, state: &State) -> f32 {
        let mut extreme = 0.0f32;
        for scale in state.scale {
            if scale.abs() > extreme.abs() {
                extreme = scale;
            }
        }
        if extreme == 0.0 {
            return 0.0;
        }
        let (low, high) = (F32::splat(simd, self.lowest_code), F32::splat(simd, -1.0 - self.lowest_code));
        let mut totals = ZERO;
        for group in 0..groups::<V>() {
            let inverse = load(simd, &TOP_CODES, group) * F32::splat(simd, self.lowest_code / extreme);
            let unit = F32::splat(simd, 1.0) / inverse;
            let mut total = F32::splat(simd, 0.0);
            for (scale, curvature) in state.scale.iter().zip(&state.curvature) {
                let scale = F32::splat(simd, *scale);
                let left = scale - unit * (scale * inverse).round_clamped(low, high);
                total = total + F32::splat(simd, *curvature) * left * left;
            }
            total.store(&mut totals, group);
        }
        let mut best = 0;
        for i in 1..LANES {
            if totals[i] < totals[best] {
                best = i;
            }
        }
        extreme / (self.lowest_code * TOP_CODES[best])
    }

    /// Step 3: the codes with the least error within `reach` of those nearest to the scale, and with `both_signs`
    /// to its negative, and the sums over the levels under them.
    #[inline(always)]
    fn search_codes<V: Simd>(
        &self,
        simd: V,
        tile: &Tile<N>,
        state: &mut State,
        reach: i32,
        both_signs: bool,
    ) {
        let splat = |value| F32::splat(simd, value);
        let zero = splat(0.0);
        let (low, high) = (splat(self.lowest_code), splat(-1.0 - self.lowest_code));
        let d = splat(state.d);
        let inverse_d = if state.d == 0.0 { zero } else { splat(1.0 / state.d) };
        for g in 0..groups::<V>() {
            let group = tile.group(simd, g);
            let nearest = (load(simd, &state.scale, g) * inverse_d).round_clamped(low, high);
            let (mut best_a, mut best) = (zero, self.error(simd, &group, zero));
            for sign in if both_signs { &[1.0, -1.0][..] } else { &[1.0] } {
                let nearest = nearest * splat(*sign);
                for da in -reach..=reach {
                    let a = (nearest + splat(da as f32)).max(low).min(high);
                    let error = self.error(simd, &group, d * a);
                    let better = best.gt(error);
                    best = better.select(error, best);
                    best_a = better.select(a, best_a);
                }
            }
            best_a.store(&mut state.a, g);
            best.store(&mut state.error, g);
            let (xq, qq) = self.sub_block.level_sums(simd, &group, d * best_a);
            xq.store(&mut state.sum_xq, g);
            qq.store(&mut state.sum_qq, g);
        }
    }

    /// Σ w (x − x̂)² under the given scale.
    #[inline(always)]
    fn error<V: Simd>(&self, simd: V, group: &Group<V, N>, scale: F32<V>) -> F32<V> {
        let (zero, one) = (F32::splat(simd, 0.0), F32::splat(simd, 1.0));
        // In units of the scale; where that is 0, in units of 1 with level 0 only.
        let positive = (scale * scale).gt(zero);
        let unit = positive.select(scale, one);
        let low = positive.select(F32::splat(simd, self.sub_block.lowest), zero);
        let high = positive.select(F32::splat(simd, self.sub_block.highest), zero);
        let inverse = one / unit;
        let mut total = zero;
        for i in 0..N {
            let y = group.x[i] * inverse;
            let left = y - y.round_clamped(low, high);
            total = total + group.w[i] * left * left;
        }
        total * unit * unit
    }

    /// Step 4: d by least squares for the levels and codes. The scales become what the codes say, so that the next
    /// search is around them.
    #[inline(always)]
    fn refine_d(&self, state: &mut State, magnitude: Magnitude) {
        let (mut xa, mut aa) = (0.0f32, 0.0f32);
        for lane in 0..LANES {
            xa += state.a[lane] * state.sum_xq[lane];
            aa += state.a[lane] * state.a[lane] * state.sum_qq[lane];
        }
        if aa > 0.0 {
            state.d = magnitude.as_stored(xa / aa);
        }
        for lane in 0..LANES {
            state.scale[lane] = state.d * state.a[lane];
        }
    }
}
