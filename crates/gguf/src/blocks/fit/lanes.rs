//! Sixteen sub-blocks side by side: one vector lane a sub-block, so that the sums a fit needs are
//! ordinary vector additions and never cross lanes.
//!
//! Every operation is the IEEE one (no fused multiply-add, no reassociation) and a lane never sees
//! another, so that the result is the same on every instruction set and beside any other sub-blocks.

use std::ops::{Add, Div, Mul, Sub};

use pulp::Simd;

/// Sub-blocks fitted together.
pub const LANES: usize = 16;

/// `N` weights and their importances of each of [`LANES`] sub-blocks: `x[i][lane]`.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub struct Tile<const N: usize> {
    /// The weights.
    pub x: [[f32; LANES]; N],
    /// Their importances: finite, not negative, and in no lane all zero.
    pub w: [[f32; LANES]; N],
}

impl<const N: usize> Tile<N> {
    /// Sub-blocks without weights: x = 0, w = 1.
    pub const ZERO: Self = Tile { x: [[0.0; LANES]; N], w: [[1.0; LANES]; N] };

    /// Puts the sub-block `x` into `lane`, with importance 1 where `importance` is absent or all zero.
    #[inline(always)]
    pub fn set_lane(&mut self, lane: usize, x: &[f32; N], importance: Option<&[f32; N]>) {
        for (row, value) in self.x.iter_mut().zip(x) {
            row[lane] = *value;
        }
        match importance {
            Some(importance) if importance.iter().any(|w| *w > 0.0) => {
                for (row, value) in self.w.iter_mut().zip(importance) {
                    row[lane] = *value;
                }
            }
            _ => self.w.iter_mut().for_each(|row| row[lane] = 1.0),
        }
    }

    /// The `group`-th run of as many lanes as a vector of `S` has.
    #[inline(always)]
    pub(super) fn group<S: Simd>(&self, simd: S, group: usize) -> Group<S, N> {
        Group {
            x: std::array::from_fn(|i| load(simd, &self.x[i], group)),
            w: std::array::from_fn(|i| load(simd, &self.w[i], group)),
        }
    }
}

/// As many sub-blocks as a vector of `S` has lanes.
#[repr(align(64))] // pulp's vectors ask for 4 only, and loads across cache lines cost twice
pub(super) struct Group<S: Simd, const N: usize> {
    pub x: [F32<S>; N],
    pub w: [F32<S>; N],
}

/// How many groups make a tile.
#[inline(always)]
pub(super) const fn groups<S: Simd>() -> usize {
    LANES / S::F32_LANES
}

/// The `group`-th vector of `values`.
#[inline(always)]
pub(super) fn load<S: Simd>(simd: S, values: &[f32; LANES], group: usize) -> F32<S> {
    F32 { simd, v: S::as_simd_f32s(values).0[group] }
}

/// A vector of f32, one lane a sub-block.
#[derive(Clone, Copy)]
pub(super) struct F32<S: Simd> {
    simd: S,
    v: S::f32s,
}

/// The result of a comparison, lane by lane.
#[derive(Clone, Copy)]
pub(super) struct Mask<S: Simd> {
    simd: S,
    v: S::m32s,
}

impl<S: Simd> F32<S> {
    /// The same value in every lane.
    #[inline(always)]
    pub fn splat(simd: S, value: f32) -> Self {
        F32 { simd, v: simd.splat_f32s(value) }
    }

    /// Writes the lanes to their place in `values`.
    #[inline(always)]
    pub fn store(self, values: &mut [f32; LANES], group: usize) {
        S::as_mut_simd_f32s(values).0[group] = self.v;
    }

    /// The larger of two, neither of which is NaN.
    #[inline(always)]
    pub fn max(self, other: Self) -> Self {
        F32 { v: self.simd.max_f32s(self.v, other.v), ..self }
    }

    /// The smaller of two, neither of which is NaN.
    #[inline(always)]
    pub fn min(self, other: Self) -> Self {
        F32 { v: self.simd.min_f32s(self.v, other.v), ..self }
    }

    /// True where `self > other`.
    #[inline(always)]
    pub fn gt(self, other: Self) -> Mask<S> {
        Mask { simd: self.simd, v: self.simd.greater_than_f32s(self.v, other.v) }
    }

    /// The nearest integer, ties to even, for |self| < 2²².
    #[inline(always)]
    pub fn round(self) -> Self {
        // 1.5 · 2²³: the sum has no fraction bits. Two instructions on every instruction set.
        let magic = Self::splat(self.simd, 12_582_912.0);
        (self + magic) - magic
    }

    /// The nearest integer in `low..=high`.
    #[inline(always)]
    pub fn round_clamped(self, low: Self, high: Self) -> Self {
        self.max(low).min(high).round()
    }
}

impl<S: Simd> Mask<S> {
    /// True where both are.
    #[inline(always)]
    pub fn and(self, other: Self) -> Self {
        Mask { v: self.simd.and_m32s(self.v, other.v), ..self }
    }

    /// `yes` where true, `no` elsewhere.
    #[inline(always)]
    pub fn select(self, yes: F32<S>, no: F32<S>) -> F32<S> {
        F32 { simd: self.simd, v: self.simd.select_f32s(self.v, yes.v, no.v) }
    }
}

macro_rules! operator {
    ($trait:ident, $method:ident, $simd_method:ident) => {
        impl<S: Simd> $trait for F32<S> {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                F32 { simd: self.simd, v: self.simd.$simd_method(self.v, other.v) }
            }
        }
    };
}
operator!(Add, add, add_f32s);
operator!(Sub, sub, sub_f32s);
operator!(Mul, mul, mul_f32s);
operator!(Div, div, div_f32s);

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Numbers with a heavy tail, reproducible.
    pub fn noise(seed: u64) -> impl FnMut() -> f32 {
        let mut state = seed.wrapping_mul(2).wrapping_add(1);
        let mut uniform = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32 + 0.5) / (1u64 << 24) as f32
        };
        move || (uniform() - 0.5).signum() * -uniform().ln()
    }

    /// A tile of Laplace-distributed weights and positive importances.
    pub fn tile<const N: usize>(seed: u64) -> Tile<N> {
        let mut noise = noise(seed);
        let mut tile = Tile::ZERO;
        tile.x.iter_mut().flatten().for_each(|x| *x = noise());
        tile.w.iter_mut().flatten().for_each(|w| *w = noise().abs() + 0.01);
        tile
    }

    /// Σ w (x − x̂)² of one lane, x̂ given by `decode`.
    pub fn error<const N: usize>(tile: &Tile<N>, lane: usize, decode: impl Fn(f32) -> f32) -> f64 {
        (0..N)
            .map(|i| {
                f64::from(tile.w[i][lane]) * f64::from(tile.x[i][lane] - decode(tile.x[i][lane])).powi(2)
            })
            .sum()
    }

    #[test]
    fn a_sub_block_without_importance_counts_all_its_weights() {
        let mut tile = Tile::<2>::ZERO;
        tile.set_lane(3, &[1.0, 2.0], Some(&[0.0, 5.0]));
        tile.set_lane(4, &[3.0, 4.0], Some(&[0.0, 0.0]));
        assert_eq!((tile.x[0][3], tile.x[1][3], tile.w[0][3], tile.w[1][3]), (1.0, 2.0, 0.0, 5.0));
        assert_eq!((tile.x[0][4], tile.x[1][4], tile.w[0][4], tile.w[1][4]), (3.0, 4.0, 1.0, 1.0));
    }
}
