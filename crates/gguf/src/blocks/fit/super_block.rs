//! Bringing super-blocks into tiles: weights divided by a power of two and importances by their largest, so that
//! squares and products of sums neither overflow nor vanish whatever the units of the model.

use half::f16;

use super::lanes::Tile;
use crate::QK_K;

/// The power of two that a block's weights are divided by, so that the largest is in 1..2.
#[derive(Clone, Copy, Debug)]
pub(super) struct Magnitude {
    /// 2^e.
    unit: f32,
    /// 2^−e, or 0 for a block that no f16 scale can tell from zeros.
    inverse: f32,
}

impl Magnitude {
    /// That of a block of zeros.
    pub const ZERO: Self = Magnitude { unit: 1.0, inverse: 0.0 };

    /// The magnitude of `x`.
    #[inline(always)]
    pub fn of(x: &[f32; QK_K]) -> Self {
        // Bit patterns of absolute values are ordered as the values are; the loop compiles to vectors.
        let largest = x.iter().fold(0, |most: u32, v| most.max(v.to_bits() & 0x7fff_ffff));
        // Under half the smallest f16 every value is nearer to 0 than to anything that can be stored.
        if largest < (0.5 * f16::MIN_POSITIVE_SUBNORMAL.to_f32()).to_bits() {
            return Self::ZERO;
        }
        // At most 2^126, whose inverse is still a normal number.
        let exponent = (largest >> 23).min(253);
        Magnitude { unit: f32::from_bits(exponent << 23), inverse: f32::from_bits((254 - exponent) << 23) }
    }

    /// The f16 nearest to `value` in units of the magnitude; the largest finite one where that would be infinite.
    #[inline(always)]
    pub fn to_f16(self, value: f32) -> f16 {
        let most = f16::MAX.to_f32();
        f16::from_f32((value * self.unit).clamp(-most, most))
    }

    /// `value` as it comes back from f16.
    #[inline(always)]
    pub fn as_stored(self, value: f32) -> f32 {
        self.to_f16(value).to_f32() * self.inverse
    }
}

/// Puts the sub-blocks of a block into the tile's lanes from `first` on.
#[inline(always)]
pub(super) fn fill_weights<const N: usize>(
    tile: &mut Tile<N>,
    first: usize,
    x: &[f32; QK_K],
    magnitude: Magnitude,
) {
    for (j, sub_block) in x.as_chunks::<N>().0.iter().enumerate() {
        for (row, value) in tile.x.iter_mut().zip(sub_block) {
            row[first + j] = value * magnitude.inverse;
        }
    }
}

/// Puts a block's importance into the tile's lanes from `first` on, the largest as 1. Zeros count a little, so that
/// a sub-block without importance still gets sensible scales without cost to the others.
#[inline(always)]
pub(super) fn fill_importance<const N: usize>(tile: &mut Tile<N>, first: usize, importance: &[f32; QK_K]) {
    const LEAST: f32 = 1e-9;
    let largest = importance.iter().fold(0.0f32, |most, w| if *w > most { *w } else { most });
    for (j, sub_block) in importance.as_chunks::<N>().0.iter().enumerate() {
        for (row, w) in tile.w.iter_mut().zip(sub_block) {
            row[first + j] = if largest > 0.0 { (w / largest).max(LEAST) } else { 1.0 };
        }
    }
}
