//! Super-blocks of Q3_K and Q6_K: x ≈ d · a · q with levels q ∈ lowest..=highest and one small signed integer a a
//! sub-block, chosen so that Σ w (x − x̂)² is small as it will be stored.
//!
//! 1. Each sub-block gets its best real scale ([`Symmetric`]).
//! 2. d is the unit under which rounding these costs least, in second order. Its sign is that which gives the
//!    largest scale the longer side of the codes.
//! 3. Each sub-block tries the codes around and takes the one with the least true error. Rounding has very many
//!    local optima, and the best of those that the integers hit is far better than a good one rounded to them:
//!    in Q6_K this step gains all there is, and step 1 only has to say where to look.
//! 4. For the levels and codes so found d follows by least squares.
//!
//! ggml (`quantize_row_q6_K_ref`, `quantize_row_q3_K_impl` and their siblings) does 1 and 2 only.

use pulp::{Arch, Simd, WithSimd};

use super::lanes::{F32, Group, LANES, Tile, groups, load};
use super::super_block::{Magnitude, fill_importance, fill_weights};
use super::symmetric::Symmetric;
use super::unit::{TopCodes, cheapest_unit};
use crate::QK_K;
use crate::blocks::format::Importance;
use crate::blocks::k_scales::SignedScales;

/// Weights a sub-block.
const N: usize = 16;

/// The integers of a format, and how hard to look for them.
#[derive(Clone, Copy, Debug)]
pub struct SignedSuperBlock {
    /// Smallest a, negative; the largest is one less in magnitude.
    pub lowest_code: f32,
    /// The search where all weights count alike.
    pub plain: SignedSearch,
    /// The search under an importance, which makes the error rougher.
    pub weighted: SignedSearch,
}

/// How hard to look.
#[derive(Clone, Copy, Debug)]
pub struct SignedSearch {
    /// Levels of the weights and the search for real scales.
    pub sub_block: Symmetric,
    /// What the largest scale's code is tried to be in step 2.
    pub top_codes: &'static [TopCodes],
    /// How much smaller in magnitude than the rounded scale step 3 tries codes.
    pub finer: i32,
    /// How much larger.
    pub coarser: i32,
    /// Whether it tries the same with the other sign.
    pub both_signs: bool,
}

/// The codes of a super-block in units of its magnitude.
struct Choice {
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
        self.fit_on(Arch::new(), x, importance, scales);
    }

    fn fit_on(
        &self,
        arch: Arch,
        x: &[[f32; QK_K]],
        importance: Importance<QK_K>,
        scales: &mut [SignedScales],
    ) {
        struct Op<'a> {
            search: &'a SignedSuperBlock,
            x: &'a [[f32; QK_K]],
            importance: Importance<'a, QK_K>,
            scales: &'a mut [SignedScales],
        }
        impl WithSimd for Op<'_> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                let mut tile = Tile::<N>::ZERO;
                for (i, (x, scales)) in self.x.iter().zip(self.scales).enumerate() {
                    let magnitude = Magnitude::of(x);
                    fill_weights(&mut tile, 0, x, magnitude);
                    if let Some(importance) = self.importance.of(i) {
                        fill_importance(&mut tile, 0, importance);
                    }
                    let plain = self.importance.is_uniform();
                    let how = if plain { &self.search.plain } else { &self.search.weighted };
                    *scales = self.search.fit_tile(simd, &tile, magnitude, how);
                }
            }
        }
        arch.dispatch(Op { search: self, x, importance, scales });
    }

    #[inline(always)]
    fn fit_tile<S: Simd>(
        &self,
        simd: S,
        tile: &Tile<N>,
        magnitude: Magnitude,
        how: &SignedSearch,
    ) -> SignedScales {
        let (mut scale, mut curvature) = (ZERO, ZERO);
        for group in 0..groups::<S>() {
            let fitted = how.sub_block.fit_group(simd, &tile.group(simd, group));
            fitted.scale.store(&mut scale, group);
            fitted.curvature.store(&mut curvature, group);
        }
        let codes = (self.lowest_code, -1.0 - self.lowest_code);
        let d = magnitude.as_stored(cheapest_unit(simd, &scale, &curvature, codes, how.top_codes));
        let choice = self.search_codes(simd, tile, how, d, &scale);

        let refined = magnitude.as_stored(choice.best_d().unwrap_or(d));
        let mut error = ZERO;
        for group in 0..groups::<S>() {
            let scale = load(simd, &choice.a, group) * F32::splat(simd, refined);
            how.error(simd, &tile.group(simd, group), scale).store(&mut error, group);
        }
        let better = error.iter().sum::<f32>() < choice.error.iter().sum::<f32>();
        SignedScales {
            d: magnitude.to_f16(if better { refined } else { d }),
            scales: choice.a.map(|a| a as i8),
        }
    }

    /// Step 3 under the unit `d`.
    #[inline(always)]
    fn search_codes<S: Simd>(
        &self,
        simd: S,
        tile: &Tile<N>,
        how: &SignedSearch,
        d: f32,
        scale: &[f32; LANES],
    ) -> Choice {
        let splat = |value| F32::splat(simd, value);
        let (zero, one) = (splat(0.0), splat(1.0));
        let (low, high) = (splat(self.lowest_code), splat(-1.0 - self.lowest_code));
        let inverse_d = splat(if d == 0.0 { 0.0 } else { 1.0 / d });
        let d = splat(d);
        let mut choice = Choice { a: ZERO, error: ZERO, sum_xq: ZERO, sum_qq: ZERO };
        for g in 0..groups::<S>() {
            let group = tile.group(simd, g);
            let nearest = (load(simd, scale, g) * inverse_d).round_clamped(low, high);
            let away_from_zero = zero.gt(nearest).select(zero - one, one);
            let (mut best_a, mut best) = (zero, how.error(simd, &group, zero));
            for sign in if how.both_signs { &[1.0, -1.0][..] } else { &[1.0] } {
                for further in -how.finer..=how.coarser {
                    let a = (nearest + away_from_zero * splat(further as f32)) * splat(*sign);
                    let a = a.max(low).min(high);
                    let error = how.error(simd, &group, d * a);
                    let better = best.gt(error);
                    best = better.select(error, best);
                    best_a = better.select(a, best_a);
                }
            }
            best_a.store(&mut choice.a, g);
            best.store(&mut choice.error, g);
            let (xq, qq) = how.sub_block.level_sums(simd, &group, d * best_a);
            xq.store(&mut choice.sum_xq, g);
            qq.store(&mut choice.sum_qq, g);
        }
        choice
    }
}

impl Choice {
    /// Step 4: the least-squares d for these codes and levels; `None` where all are zero.
    #[inline(always)]
    fn best_d(&self) -> Option<f32> {
        let (mut xa, mut aa) = (0.0f32, 0.0f32);
        for lane in 0..LANES {
            xa += self.a[lane] * self.sum_xq[lane];
            aa += self.a[lane] * self.a[lane] * self.sum_qq[lane];
        }
        (aa > 0.0).then(|| xa / aa)
    }
}

impl SignedSearch {
    /// Σ w (x − x̂)² under the given scale.
    #[inline(always)]
    fn error<S: Simd>(&self, simd: S, group: &Group<S, N>, scale: F32<S>) -> F32<S> {
        let (zero, one) = (F32::splat(simd, 0.0), F32::splat(simd, 1.0));
        // In units of the scale; where that is 0, in units of 1 with level 0 only.
        let nonzero = (scale * scale).gt(zero);
        let unit = nonzero.select(scale, one);
        let low = nonzero.select(F32::splat(simd, self.sub_block.lowest), zero);
        let high = nonzero.select(F32::splat(simd, self.sub_block.highest), zero);
        let inverse = one / unit;
        let mut total = zero;
        for i in 0..N {
            let y = group.x[i] * inverse;
            let left = y - y.round_clamped(low, high);
            total = total + group.w[i] * left * left;
        }
        total * unit * unit
    }
}

#[cfg(test)]
mod tests {
    use super::super::lanes::tests::noise;
    use super::super::unit::even_steps;
    use super::*;

    const SUB_BLOCK: Symmetric = Symmetric { lowest: -4.0, highest: 3.0, trials: &[0.0, 0.5], refits: 1 };
    const SEARCH: SignedSuperBlock = SignedSuperBlock {
        lowest_code: -32.0,
        plain: SignedSearch {
            sub_block: SUB_BLOCK,
            top_codes: &[even_steps(1.1, 0.8)],
            finer: 2,
            coarser: 2,
            both_signs: true,
        },
        weighted: SignedSearch {
            sub_block: SUB_BLOCK,
            top_codes: &[even_steps(1.1, 0.8)],
            finer: 4,
            coarser: 2,
            both_signs: false,
        },
    };

    #[test]
    fn every_instruction_set_chooses_the_same_scales() {
        let mut noise = noise(5);
        let x: [[f32; QK_K]; 4] = std::array::from_fn(|_| std::array::from_fn(|_| noise()));
        let weights: [[f32; QK_K]; 2] = std::array::from_fn(|_| std::array::from_fn(|_| noise().abs()));
        for importance in [Importance::UNIFORM, Importance::of_row(&weights)] {
            let fit = |arch| {
                let mut scales = [SignedScales::default(); 4];
                SEARCH.fit_on(arch, &x, importance, &mut scales);
                scales
            };
            assert_eq!(fit(Arch::new()), fit(Arch::Scalar));
        }
    }

    #[test]
    fn blocks_on_the_grid_are_found_again() {
        let mut noise = noise(6);
        let codes: [i8; 16] = std::array::from_fn(|j| [-32, 25, 31, -19, 7, -3, 1, 0][j % 8]);
        let x: [f32; QK_K] = std::array::from_fn(|i| {
            let level = if i % 16 == 0 { -4.0 } else { (noise() * 2.0).round().clamp(-4.0, 3.0) };
            0.125 * f32::from(codes[i / 16]) * level
        });
        let mut scales = [SignedScales::default()];
        SEARCH.fit(&[x], Importance::UNIFORM, &mut scales);
        let d = scales[0].d.to_f32();
        for (x, scale) in x.as_chunks::<16>().0.iter().zip(scales[0].scales) {
            let scale = d * f32::from(scale);
            for x in x {
                let level = if scale == 0.0 { 0.0 } else { (x / scale).round().clamp(-4.0, 3.0) };
                assert!((x - scale * level).abs() < 0.02 * 0.125 * 32.0, "{x} became {}", scale * level);
            }
        }
    }
}
