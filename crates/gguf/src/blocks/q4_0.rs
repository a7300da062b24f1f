//! Q4_0: blocks of 32 weights, 4-bit codes around zero, one f16 scale (4.5 bits a weight).
//!
//! Layout (ggml `block_q4_0`): f16 d; 16 bytes codes. The scale may be negative, so that the longer side of
//! the levels −8..=7 falls on the side of the larger weight.

use half::f16;

use super::fit::single::fit_symmetric;
use super::fit::symmetric::Symmetric;
use super::format::{BlockFormat, Importance, Levels, MAX_SUB_BLOCKS, Step};
use super::gain::stretched;
use super::halves::{pack_low, unpack_low};
use super::k_scales::{read_f16, write_f16};
use crate::TensorType;

/// The format Q4_0.
#[derive(Clone, Copy, Debug)]
#[allow(non_camel_case_types)] // ggml's name
pub struct Q4_0;

const SEARCH: [Symmetric; 2] = [
    Symmetric { lowest: -8.0, highest: 7.0, trials: &[-0.5, 0.0, 0.5, 1.0, 1.5], refits: 2 },
    Symmetric {
        lowest: -8.0,
        highest: 7.0,
        trials: &[-2.5, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5],
        refits: 2,
    },
];

impl BlockFormat<32, 18> for Q4_0 {
    const TYPE: TensorType = TensorType::Q4_0;
    const SUB_BLOCK: usize = 32;
    const LEVELS: Levels = Levels::Uniform { lowest: -8, highest: 7 };
    type Scales = f16;

    #[inline(always)]
    fn fit(x: &[[f32; 32]], importance: Importance<32>, scales: &mut [Self::Scales]) {
        fit_symmetric(&SEARCH, x, importance, scales);
    }

    #[inline(always)]
    fn stretch(d: &mut f16, factor: f32) {
        *d = stretched(*d, factor);
    }

    #[inline(always)]
    fn set_step(d: &mut f16, _: usize, step: Step) {
        *d = stretched(f16::ONE, step.size);
    }

    #[inline(always)]
    fn steps(d: &f16) -> [Step; MAX_SUB_BLOCKS] {
        [Step::symmetric(d.to_f32()); MAX_SUB_BLOCKS]
    }

    #[inline(always)]
    fn pack(d: &f16, codes: &[u8; 32], out: &mut [u8; 18]) {
        write_f16(out, 0, *d);
        pack_low(codes, &mut out[2..]);
    }

    #[inline(always)]
    fn unpack(bytes: &[u8; 18], codes: &mut [u8; 32]) -> f16 {
        unpack_low(&bytes[2..], codes);
        read_f16(bytes, 0)
    }
}
