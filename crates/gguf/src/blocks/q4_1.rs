//! Q4_1: blocks of 32 weights, 4-bit codes above a minimum, f16 scale and minimum (5 bits a weight).
//!
//! Layout (ggml `block_q4_1`): f16 d; f16 m; 16 bytes codes.

use half::f16;

use super::fit::affine::{Affine, Offset};
use super::fit::single::fit_affine;
use super::format::{BlockFormat, Importance, Levels, MAX_SUB_BLOCKS, Step};
use super::gain::stretched;
use super::halves::{pack_low, unpack_low};
use super::k_scales::{read_f16, write_f16};
use crate::TensorType;

/// The format Q4_1.
#[derive(Clone, Copy, Debug)]
#[allow(non_camel_case_types)] // ggml's name
pub struct Q4_1;

/// Scale and minimum of Q4_1 and Q5_1: a value is `d · code + m`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MinScale {
    /// Distance between neighbouring levels.
    pub d: f16,
    /// Value of code 0.
    pub m: f16,
}

impl MinScale {
    /// The one step of the block.
    #[inline(always)]
    pub(super) fn steps(&self) -> [Step; MAX_SUB_BLOCKS] {
        [Step { size: self.d.to_f32(), offset: self.m.to_f32() }; MAX_SUB_BLOCKS]
    }

    /// The nearest to a step.
    #[inline(always)]
    pub(super) fn of_step(step: Step) -> Self {
        Self { d: stretched(f16::ONE, step.size), m: stretched(f16::ONE, step.offset) }
    }

    /// Multiplies the step by `factor`.
    #[inline(always)]
    pub(super) fn stretch(&mut self, factor: f32) {
        self.d = stretched(self.d, factor);
        self.m = stretched(self.m, factor);
    }

    /// Stored as f16 d, f16 m.
    #[inline(always)]
    pub(super) fn read(bytes: &[u8]) -> Self {
        MinScale { d: read_f16(bytes, 0), m: read_f16(bytes, 2) }
    }

    /// The inverse of [`read`](Self::read).
    #[inline(always)]
    pub(super) fn write(&self, out: &mut [u8]) {
        write_f16(out, 0, self.d);
        write_f16(out, 2, self.m);
    }
}

const ALIKE: &[(f32, f32)] = &[
    (0.0, 0.0),
    (0.5, 0.5),
    (-0.5, -0.5),
    (0.5, -0.5),
    (-0.5, 0.5),
    (0.0, -1.0),
    (-1.0, 0.0),
    (-1.0, -1.0),
    (-1.0, -2.0),
    (-2.0, -1.0),
    (-2.0, -2.0),
    (-3.0, -3.0),
];
const WEIGHTED: &[(f32, f32)] = &[
    (0.0, 0.0),
    (0.5, 0.5),
    (-0.5, -0.5),
    (0.5, -0.5),
    (-0.5, 0.5),
    (0.0, -1.0),
    (-1.0, 0.0),
    (-1.0, -1.0),
    (-1.0, -2.0),
    (-2.0, -1.0),
    (-2.0, -2.0),
    (-3.0, -3.0),
    (0.25, 0.25),
    (0.5, -1.5),
    (-1.5, 0.5),
    (-1.5, -1.5),
    (-0.5, -1.5),
    (-1.5, -0.5),
    (0.0, -2.5),
    (-2.5, 0.0),
    (-2.5, -2.5),
    (-3.0, -1.0),
    (-1.0, -3.0),
    (-4.0, -4.0),
];
const SEARCH: [Affine; 2] = [
    Affine { highest: 15.0, offset: Offset::Free, trials: ALIKE, refits: 2 },
    Affine { highest: 15.0, offset: Offset::Free, trials: WEIGHTED, refits: 2 },
];

impl BlockFormat<32, 20> for Q4_1 {
    const TYPE: TensorType = TensorType::Q4_1;
    const SUB_BLOCK: usize = 32;
    const LEVELS: Levels = Levels::Uniform { lowest: 0, highest: 15 };
    type Scales = MinScale;

    #[inline(always)]
    fn fit(x: &[[f32; 32]], importance: Importance<32>, scales: &mut [Self::Scales]) {
        fit_affine(&SEARCH, x, importance, scales);
    }

    #[inline(always)]
    fn stretch(scales: &mut Self::Scales, factor: f32) {
        scales.stretch(factor);
    }

    #[inline(always)]
    fn set_step(scales: &mut Self::Scales, _: usize, step: Step) {
        *scales = MinScale::of_step(step);
    }

    #[inline(always)]
    fn steps(scales: &MinScale) -> [Step; MAX_SUB_BLOCKS] {
        scales.steps()
    }

    #[inline(always)]
    fn pack(scales: &MinScale, codes: &[u8; 32], out: &mut [u8; 20]) {
        scales.write(out);
        pack_low(codes, &mut out[4..]);
    }

    #[inline(always)]
    fn unpack(bytes: &[u8; 20], codes: &mut [u8; 32]) -> MinScale {
        unpack_low(&bytes[4..], codes);
        MinScale::read(bytes)
    }
}
