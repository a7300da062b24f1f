//! Blocks of 32 weights that store their own f16 scale: Q4_0, Q5_0, Q8_0, IQ4_NL and, with a minimum, Q4_1, Q5_1.

use half::f16;
use pulp::Arch;

use super::super::format::Importance;
use super::super::q4_1::MinScale;
use super::affine::Affine;
use super::lanes::{LANES, Tile};
use super::symmetric::Symmetric;

/// Calls `fit` for every sixteen blocks of `x` with a tile and the unit of each lane, and has it write the
/// scales of the blocks of that tile. The last tile may be filled up with empty lanes.
///
/// Inside the tile the largest |x| and the largest importance of a lane are brought near 1 by powers of two, so
/// that no sum over- or underflows: a length y there is `y · unit` outside.
#[inline(always)]
pub(in super::super) fn for_each_tile<T>(
    x: &[[f32; 32]],
    importance: Importance<32>,
    scales: &mut [T],
    mut fit: impl FnMut(&Tile<32>, &[f32; LANES], &mut [T]),
) {
    let mut tile = Tile::<32>::ZERO;
    let mut unit = [1.0; LANES];
    for (t, (x, scales)) in x.chunks(LANES).zip(scales.chunks_mut(LANES)).enumerate() {
        for (lane, x) in x.iter().enumerate() {
            let (factor, inverse) = powers_of_two(x);
            unit[lane] = inverse;
            let x = x.map(|x| x * factor);
            let importance = importance.of(t * LANES + lane).map(|w| {
                let (factor, _) = powers_of_two(w);
                w.map(|w| w * factor)
            });
            tile.set_lane(lane, &x, importance.as_ref());
        }
        fit(&tile, &unit, scales);
    }
}

/// A power of two that brings the largest |x| to 1 or a little above (below it for subnormal numbers), and its inverse.
#[inline(always)]
fn powers_of_two(x: &[f32; 32]) -> (f32, f32) {
    let largest = x.iter().fold(0, |largest: u32, x| largest.max(x.abs().to_bits()));
    let exponent = (largest >> 23).clamp(1, 253);
    (f32::from_bits((254 - exponent) << 23), f32::from_bits(exponent << 23))
}

/// The f16 nearest to `x`, at most its largest finite value.
#[inline(always)]
pub(in super::super) fn to_f16(x: f32) -> f16 {
    f16::from_f32(x.clamp(f16::MIN.to_f32(), f16::MAX.to_f32()))
}

/// The f16 scales of blocks whose values are scale · level, found by the first search where weights count alike,
/// else by the second: then it can pay to clip a large weight that counts little.
pub(in super::super) fn fit_symmetric(
    [alike, weighted]: &[Symmetric; 2],
    x: &[[f32; 32]],
    importance: Importance<32>,
    scales: &mut [f16],
) {
    let arch = Arch::new();
    let search = if importance.is_uniform() { alike } else { weighted };
    for_each_tile(x, importance, scales, |tile, unit, scales| {
        let fitted = search.fit(arch, tile);
        for (scale, (fitted, unit)) in scales.iter_mut().zip(fitted.iter().zip(unit)) {
            *scale = to_f16(fitted * unit);
        }
    });
}

/// The f16 scales and minima of blocks whose values are scale · level + minimum; the searches are as in
/// [`fit_symmetric`].
pub(in super::super) fn fit_affine(
    [alike, weighted]: &[Affine; 2],
    x: &[[f32; 32]],
    importance: Importance<32>,
    scales: &mut [MinScale],
) {
    let arch = Arch::new();
    let search = if importance.is_uniform() { alike } else { weighted };
    for_each_tile(x, importance, scales, |tile, unit, scales| {
        let fitted = search.fit(arch, tile);
        for (lane, scale) in scales.iter_mut().enumerate() {
            let (fitted_scale, offset) = (fitted.scale[lane], fitted.offset[lane]);
            scale.d = to_f16(fitted_scale * unit[lane]);
            // The minimum takes up what rounding the scale moves the middle of the levels by; without a scale
            // it is the mean.
            let middle = if scale.d == f16::ZERO {
                mean(tile, lane)
            } else {
                offset + (fitted_scale - scale.d.to_f32() / unit[lane]) * (0.5 * search.highest)
            };
            scale.m = to_f16(middle * unit[lane]);
        }
    });
}

/// The weighted mean of one lane.
fn mean(tile: &Tile<32>, lane: usize) -> f32 {
    let (mut sum, mut weights) = (0.0, 0.0);
    for (x, w) in tile.x.iter().zip(&tile.w) {
        sum += w[lane] * x[lane];
        weights += w[lane];
    }
    sum / weights
}
