//! Q8_0: blocks of 32 weights, signed bytes, one f16 scale (8.5 bits a weight).
//!
//! Layout (ggml `block_q8_0`): f16 d; 32 signed bytes. Level −128 is decoded like any other, but scales are fitted
//! so that no weight needs it (short of subnormal d): ggml writes −127..=127, and readers may rely on symmetry.

use half::f16;
use pulp::Arch;

use super::fit::bytes;
use super::fit::single::{for_each_tile, to_f16};
use super::format::{BlockFormat, Importance, Levels, MAX_SUB_BLOCKS, Step};
use super::gain::stretched;
use super::k_scales::{read_f16, write_f16};
use crate::TensorType;

/// The format Q8_0. Codes are the stored bytes plus 128.
#[derive(Clone, Copy, Debug)]
#[allow(non_camel_case_types)] // ggml's name
pub struct Q8_0;

impl BlockFormat<32, 34> for Q8_0 {
    const TYPE: TensorType = TensorType::Q8_0;
    const SUB_BLOCK: usize = 32;
    const LEVELS: Levels = Levels::Uniform { lowest: -128, highest: 127 };
    type Scales = f16;

    #[inline(always)]
    fn fit(x: &[[f32; 32]], importance: Importance<32>, scales: &mut [Self::Scales]) {
        let arch = Arch::new();
        for_each_tile(x, importance, scales, |tile, unit, scales| {
            let fitted = bytes::fit(arch, tile);
            for (scale, (fitted, unit)) in scales.iter_mut().zip(fitted.iter().zip(unit)) {
                *scale = to_f16(fitted * unit);
            }
        });
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
    fn pack(d: &f16, codes: &[u8; 32], out: &mut [u8; 34]) {
        write_f16(out, 0, *d);
        for (byte, code) in out[2..].iter_mut().zip(codes) {
            *byte = code ^ 128;
        }
    }

    #[inline(always)]
    fn unpack(bytes: &[u8; 34], codes: &mut [u8; 32]) -> f16 {
        for (code, byte) in codes.iter_mut().zip(&bytes[2..]) {
            *code = byte ^ 128;
        }
        read_f16(bytes, 0)
    }
}
