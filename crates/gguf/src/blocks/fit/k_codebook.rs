//! Super-blocks of IQ4_XS: x ≈ d · a · v with v from a table and one integer a ∈ −32..=31 for each of eight
//! sub-blocks, chosen so that Σ w (x − x̂)² is small as it will be stored.
//!
//! The steps are those of `k_signed`: the best real scale of each sub-block; the unit d under which rounding
//! these costs least, in second order; the integers around, compared by their true error; d by least squares
//! for these integers and entries, and the integers around once more. Two super-blocks share a tile.

use half::f16;
use pulp::{Arch, Simd, WithSimd};

use super::codebook::Codebook;
use super::lanes::{F32, LANES, Tile, groups, load};
use super::super_block::{Magnitude, fill_importance, fill_weights};
use crate::QK_K;
use crate::blocks::format::{Importance, round_ties_even};

/// Sub-blocks of a super-block.
pub const SUB_BLOCKS: usize = 8;
/// Weights a sub-block.
const N: usize = QK_K / SUB_BLOCKS;
/// Super-blocks a tile.
const PAIR: usize = LANES / SUB_BLOCKS;
/// Smallest and largest a.
const LOWEST: f32 = -32.0;
const HIGHEST: f32 = 31.0;

/// How hard to look.
#[derive(Clone, Copy, Debug)]
pub struct CodebookSuperBlock {
    /// The table and the search for real scales.
    pub sub_block: Codebook,
    /// How far around the rounded scale integers are tried.
    pub reach: i32,
    /// How far when that is repeated under the refined unit.
    pub second_reach: i32,
}

/// The integers of a tile under one unit a super-block.
#[derive(Clone, Copy)]
struct Choice {
    d: [f32; PAIR],
    a: [f32; LANES],
    error: [f32; LANES],
    /// Σ w x v and Σ w v² over the entries under these integers.
    xv: [f32; LANES],
    vv: [f32; LANES],
}

impl CodebookSuperBlock {
    /// Calls `store` with d and the eight integers of each block, in order.
    pub fn fit(
        &self,
        x: &[[f32; QK_K]],
        importance: Importance<QK_K>,
        store: impl FnMut(usize, f16, [i8; SUB_BLOCKS]),
    ) {
        struct Op<'a, F>(&'a CodebookSuperBlock, &'a [[f32; QK_K]], Importance<'a, QK_K>, F);
        impl<F: FnMut(usize, f16, [i8; SUB_BLOCKS])> WithSimd for Op<'_, F> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                let Op(search, x, importance, mut store) = self;
                let mut tile = Tile::<N>::ZERO;
                for (t, x) in x.chunks(PAIR).enumerate() {
                    let mut magnitude = [Magnitude::ZERO; PAIR];
                    for (half, (x, magnitude)) in x.iter().zip(&mut magnitude).enumerate() {
                        *magnitude = Magnitude::of(x);
                        fill_weights(&mut tile, half * SUB_BLOCKS, x, *magnitude);
                        if let Some(importance) = importance.of(t * PAIR + half) {
                            fill_importance(&mut tile, half * SUB_BLOCKS, importance);
                        }
                    }
                    let choice = search.fit_tile(simd, &tile, &magnitude);
                    for (half, magnitude) in magnitude.iter().enumerate().take(x.len()) {
                        let integers = std::array::from_fn(|j| choice.a[half * SUB_BLOCKS + j] as i8);
                        store(t * PAIR + half, magnitude.to_f16(choice.d[half]), integers);
                    }
                }
            }
        }
        Arch::new().dispatch(Op(self, x, importance, store));
    }

    #[inline(always)]
    fn fit_tile<S: Simd>(&self, simd: S, tile: &Tile<N>, magnitude: &[Magnitude; PAIR]) -> Choice {
        let scales = self.sub_block.fit_with(simd, tile);
        let d = std::array::from_fn(|half| {
            let lanes = half * SUB_BLOCKS..(half + 1) * SUB_BLOCKS;
            let unit = cheapest_unit(&scales.scale[lanes.clone()], &scales.curvature[lanes]);
            magnitude[half].as_stored(unit)
        });
        let mut choice = self.choose(simd, tile, d, &scales.scale, self.reach);

        let scale = std::array::from_fn(|lane| choice.d[lane / SUB_BLOCKS] * choice.a[lane]);
        let d = std::array::from_fn(|half| {
            let (mut xa, mut aa) = (0.0, 0.0);
            for lane in half * SUB_BLOCKS..(half + 1) * SUB_BLOCKS {
                xa += choice.a[lane] * choice.xv[lane];
                aa += choice.a[lane] * choice.a[lane] * choice.vv[lane];
            }
            if aa > 0.0 { magnitude[half].as_stored(xa / aa) } else { choice.d[half] }
        });
        let second = self.choose(simd, tile, d, &scale, self.second_reach);
        for half in 0..PAIR {
            let lanes = half * SUB_BLOCKS..(half + 1) * SUB_BLOCKS;
            let total = |choice: &Choice| choice.error[lanes.clone()].iter().sum::<f32>();
            if total(&second) < total(&choice) {
                choice.d[half] = second.d[half];
                choice.a[lanes.clone()].copy_from_slice(&second.a[lanes.clone()]);
            }
        }
        choice
    }

    /// The integers with the least error within `reach` of those nearest to `scale / d`.
    #[inline(always)]
    fn choose<S: Simd>(
        &self,
        simd: S,
        tile: &Tile<N>,
        d: [f32; PAIR],
        scale: &[f32; LANES],
        reach: i32,
    ) -> Choice {
        let per_lane: [f32; LANES] = std::array::from_fn(|lane| d[lane / SUB_BLOCKS]);
        let mut nearest = [0.0; LANES];
        for (nearest, (scale, d)) in nearest.iter_mut().zip(scale.iter().zip(per_lane)) {
            let a = if d == 0.0 { 0.0 } else { scale / d };
            *nearest = round_ties_even(a.clamp(LOWEST, HIGHEST));
        }
        let zeros = [0.0; LANES];
        let mut choice = Choice { d, a: zeros, error: zeros, xv: zeros, vv: zeros };
        let (low, high) = (F32::splat(simd, LOWEST), F32::splat(simd, HIGHEST));
        for g in 0..groups::<S>() {
            let group = tile.group(simd, g);
            let (d, nearest) = (load(simd, &per_lane, g), load(simd, &nearest, g));
            let mut best_a = nearest;
            let mut best = self.sub_block.terms(simd, &group, d * nearest);
            for step in (-reach..=reach).filter(|step| *step != 0) {
                let a = (nearest + F32::splat(simd, step as f32)).max(low).min(high);
                let terms = self.sub_block.terms(simd, &group, d * a);
                best_a = best.error.gt(terms.error).select(a, best_a);
                best = best.or(terms);
            }
            best_a.store(&mut choice.a, g);
            best.error.store(&mut choice.error, g);
            best.xv.store(&mut choice.xv, g);
            best.vv.store(&mut choice.vv, g);
        }
        choice
    }
}

/// The unit u for which Σ curvature (scale − u · integer)² is least, among those that make the integer of the
/// largest scale −32 or a little less in magnitude.
#[inline(always)]
fn cheapest_unit(scale: &[f32], curvature: &[f32]) -> f32 {
    const TOP: [f32; 16] = [
        -32.0, -31.5, -31.0, -30.5, -30.0, -29.5, -29.0, -28.5, -28.0, -27.5, -27.0, -26.5, -26.0, -25.0,
        -24.0, -33.0,
    ];
    let extreme = scale.iter().fold(0.0f32, |most, s| if s.abs() > most.abs() { *s } else { most });
    if extreme == 0.0 {
        return 0.0;
    }
    let inverse = TOP.map(|top| top / extreme);
    let unit = inverse.map(|inverse| 1.0 / inverse);
    let mut totals = [0.0f32; 16];
    for (scale, curvature) in scale.iter().zip(curvature) {
        for (total, (unit, inverse)) in totals.iter_mut().zip(unit.iter().zip(inverse)) {
            let left = scale - unit * round_ties_even((scale * inverse).clamp(LOWEST, HIGHEST));
            *total += curvature * left * left;
        }
    }
    let best = (1..16).fold(0, |best, i| if totals[i] < totals[best] { i } else { best });
    unit[best]
}
