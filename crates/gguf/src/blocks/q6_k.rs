//! Q6_K: 16 sub-blocks of 16 weights, 6-bit codes, 8-bit signed scales (6.5625 bits a weight).
//!
//! Layout (ggml `block_q6_K`): 128 bytes low four bits; 64 bytes high two bits; 16 bytes scales; f16 d.
//! In each half h of 128 weights, low byte 64 h + l holds weights l and l + 64 of the half (l < 64), and
//! high byte 32 h + l weights l + {0, 32, 64, 96}, lowest bits first.

use super::fit::k_signed::{SignedSearch, SignedSuperBlock};
use super::fit::symmetric::Symmetric;
use super::fit::unit::{FAR_BEYOND, even_steps};
use super::format::{BlockFormat, Importance, Levels, MAX_SUB_BLOCKS, Step};
use super::k_scales::{SignedScales, read_f16, write_f16};
use crate::{QK_K, TensorType};

/// The format Q6_K.
#[derive(Clone, Copy, Debug)]
pub struct Q6K;

const SUB_BLOCK: Symmetric = Symmetric { lowest: -32.0, highest: 31.0, trials: &[0.0], refits: 0 };

/// The largest scale's code stays well below 128, so that its sub-block, too, can try coarser ones.
const SEARCH: SignedSuperBlock = SignedSuperBlock {
    lowest_code: -128.0,
    plain: SignedSearch {
        sub_block: SUB_BLOCK,
        top_codes: &[even_steps(0.95, 0.8)],
        finer: 4,
        coarser: 16,
        both_signs: false,
    },
    weighted: SignedSearch {
        sub_block: SUB_BLOCK,
        top_codes: &[even_steps(0.95, 0.8), FAR_BEYOND],
        finer: 8,
        coarser: 20,
        both_signs: false,
    },
};

impl BlockFormat<QK_K, 210> for Q6K {
    const TYPE: TensorType = TensorType::Q6_K;
    const SUB_BLOCK: usize = 16;
    const LEVELS: Levels = Levels::Uniform { lowest: -32, highest: 31 };
    type Scales = SignedScales;

    #[inline(always)]
    fn fit(x: &[[f32; QK_K]], importance: Importance<QK_K>, scales: &mut [Self::Scales]) {
        SEARCH.fit(x, importance, scales);
    }

    #[inline(always)]
    fn stretch(scales: &mut Self::Scales, factor: f32) {
        scales.stretch(factor);
    }

    #[inline(always)]
    fn set_step(scales: &mut Self::Scales, sub_block: usize, step: Step) {
        scales.set_step(sub_block, step, SEARCH.lowest_code);
    }

    #[inline(always)]
    fn steps(scales: &Self::Scales) -> [Step; MAX_SUB_BLOCKS] {
        scales.steps()
    }

    #[inline(always)]
    fn pack(scales: &Self::Scales, codes: &[u8; QK_K], out: &mut [u8; 210]) {
        for (half, codes) in codes.as_chunks::<128>().0.iter().enumerate() {
            for l in 0..64 {
                out[64 * half + l] = codes[l] & 15 | (codes[l + 64] & 15) << 4;
            }
            for l in 0..32 {
                out[128 + 32 * half + l] = codes[l] >> 4
                    | codes[l + 32] >> 4 << 2
                    | codes[l + 64] >> 4 << 4
                    | codes[l + 96] >> 4 << 6;
            }
        }
        for (byte, scale) in out[192..208].iter_mut().zip(scales.scales) {
            *byte = scale as u8;
        }
        write_f16(out, 208, scales.d);
    }

    #[inline(always)]
    fn unpack(bytes: &[u8; 210], codes: &mut [u8; QK_K]) -> Self::Scales {
        for (half, codes) in codes.as_chunks_mut::<128>().0.iter_mut().enumerate() {
            for l in 0..32 {
                let (low, next) = (bytes[64 * half + l], bytes[64 * half + 32 + l]);
                let high = bytes[128 + 32 * half + l];
                codes[l] = low & 15 | (high & 3) << 4;
                codes[l + 32] = next & 15 | (high >> 2 & 3) << 4;
                codes[l + 64] = low >> 4 | (high >> 4 & 3) << 4;
                codes[l + 96] = next >> 4 | high >> 6 << 4;
            }
        }
        let mut scales = SignedScales { d: read_f16(bytes, 208), ..Default::default() };
        for (scale, byte) in scales.scales.iter_mut().zip(&bytes[192..208]) {
            *scale = *byte as i8;
        }
        scales
    }
}
