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

    /// `value`, in units of the magnitude, as the f16 to store: the nearest, but the largest finite one where that
    /// would be infinite, and the next away from zero among the subnormal ones, which are far apart: codes can make
    /// up for a unit that is too large by being smaller, for one that is too small they cannot grow.
    #[inline(always)]
    pub fn to_f16(self, value: f32) -> f16 {
        let most = f16::MAX.to_f32();
        let value = (value * self.unit).clamp(-most, most);
        let nearest = f16::from_f32(value);
        if value.abs() < f16::MIN_POSITIVE.to_f32() && nearest.to_f32().abs() < value.abs() {
            let sign = if value < 0.0 { 0x8000 } else { 0 };
            return f16::from_bits(((nearest.to_bits() & 0x7fff) + 1) | sign);
        }
        nearest
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn largest_weight_comes_between_one_and_two() {
        for largest in [f32::MAX, 65504.0, 1.0, 3e-5, 2f32.powi(-25)] {
            let mut x = [0.0; QK_K];
            x[77] = -largest;
            let mut tile = Tile::<16>::ZERO;
            fill_weights(&mut tile, 0, &x, Magnitude::of(&x));
            let scaled = -tile.x[77 % 16][77 / 16];
            assert!((1.0..4.0).contains(&scaled), "{largest} became {scaled}");
        }
        let mut tile = Tile::<16>::ZERO;
        fill_weights(&mut tile, 0, &[1e-8; QK_K], Magnitude::of(&[1e-8; QK_K]));
        assert!(tile.x.iter().flatten().all(|x| *x == 0.0));
    }

    #[test]
    fn stored_units_are_finite_and_subnormal_ones_not_too_small() {
        let one = Magnitude::of(&[1.0; QK_K]);
        assert_eq!(one.as_stored(0.0), 0.0);
        assert_eq!(one.as_stored(1e30), 65504.0);
        assert_eq!(one.as_stored(-1e30), -65504.0);
        assert_eq!(one.as_stored(0.1), f16::from_f32(0.1).to_f32());
        for value in [1e-9, 7e-8, -1.2e-7, 3.3e-6, -6.09e-5] {
            let stored = one.as_stored(value);
            assert!(
                stored.abs() >= value.abs() && stored.abs() <= value.abs() + 6e-8,
                "{value} became {stored}"
            );
            assert_eq!(stored.signum(), value.signum());
            assert_eq!(one.as_stored(stored), stored);
        }
    }

    #[test]
    fn importance_is_relative_to_its_largest() {
        let mut importance = [0.0; QK_K];
        importance[3] = 1e-30;
        importance[4] = 5e-31;
        let mut tile = Tile::<32>::ZERO;
        fill_importance(&mut tile, 8, &importance);
        assert_eq!(tile.w[3][8], 1.0);
        assert!((tile.w[4][8] - 0.5).abs() < 1e-6);
        assert!(tile.w[5][8] > 0.0 && tile.w[5][8] < 1e-6);
        fill_importance(&mut tile, 8, &[0.0; QK_K]);
        assert!(tile.w.iter().all(|row| row[8] == 1.0));
    }
}
