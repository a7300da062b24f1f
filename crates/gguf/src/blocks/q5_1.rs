//! Q5_1: blocks of 32 weights, 5-bit codes above a minimum, f16 scale and minimum (6 bits a weight).
//!
//! Layout (ggml `block_q5_1`): f16 d; f16 m; 4 bytes fifth bits; 16 bytes low bits.

use super::fit::affine::{Affine, Offset};
use super::fit::single::fit_affine;
use super::format::{BlockFormat, Importance, Levels, MAX_SUB_BLOCKS, Step};
use super::halves::{pack_fifth_bits, pack_low, unpack_fifth_bits, unpack_low};
use super::q4_1::MinScale;
use crate::TensorType;

/// The format Q5_1.
#[derive(Clone, Copy, Debug)]
#[allow(non_camel_case_types)] // ggml's name
pub struct Q5_1;

const ALIKE: &[(f32, f32)] = &[
    (0.0, 0.0),
    (0.5, 0.5),
    (-0.5, -0.5),
    (0.0, -1.0),
    (-1.0, 0.0),
    (-1.0, -1.0),
    (0.0, -2.5),
    (-2.5, 0.0),
    (-2.0, -2.0),
    (-4.0, -2.0),
    (-2.0, -4.0),
    (-4.0, -4.0),
];
const WEIGHTED: &[(f32, f32)] = &[
    (0.0, 0.0),
    (0.5, 0.5),
    (-0.5, -0.5),
    (0.0, -1.0),
    (-1.0, 0.0),
    (-1.0, -1.0),
    (0.0, -2.5),
    (-2.5, 0.0),
    (-2.0, -2.0),
    (-4.0, -2.0),
    (-2.0, -4.0),
    (-4.0, -4.0),
    (0.5, -0.5),
    (-0.5, 0.5),
    (0.25, -1.75),
    (-1.75, 0.25),
    (-1.5, -1.5),
    (0.0, -4.0),
    (-4.0, 0.0),
    (-3.0, -3.0),
    (-1.0, -3.0),
    (-3.0, -1.0),
    (-6.0, -6.0),
    (-3.0, -5.0),
];
const SEARCH: [Affine; 2] = [
    Affine { highest: 31.0, offset: Offset::Free, trials: ALIKE, refits: 2 },
    Affine { highest: 31.0, offset: Offset::Free, trials: WEIGHTED, refits: 2 },
];

impl BlockFormat<32, 24> for Q5_1 {
    const TYPE: TensorType = TensorType::Q5_1;
    const SUB_BLOCK: usize = 32;
    const LEVELS: Levels = Levels::Uniform { lowest: 0, highest: 31 };
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
    fn pack(scales: &MinScale, codes: &[u8; 32], out: &mut [u8; 24]) {
        scales.write(out);
        out[4..8].copy_from_slice(&pack_fifth_bits(codes));
        pack_low(codes, &mut out[8..]);
    }

    #[inline(always)]
    fn unpack(bytes: &[u8; 24], codes: &mut [u8; 32]) -> MinScale {
        unpack_low(&bytes[8..], codes);
        unpack_fifth_bits([bytes[4], bytes[5], bytes[6], bytes[7]], codes);
        MinScale::read(bytes)
    }
}
