//! Q3_K: 16 sub-blocks of 16 weights, 3-bit codes, 6-bit signed scales (3.4375 bits a weight).
//!
//! Layout (ggml `block_q3_K`): 32 bytes high bits; 64 bytes low two bits as in Q2_K; 12 bytes scales; f16 d.
//! Bit g of high byte l belongs to weight 32 g + l. Scale i is stored plus 32: its low four bits in the low
//! (i < 8) or high half of byte i % 8, its high two bits at bits 2 (i / 4) of byte 8 + i % 4.

use super::fit::k_signed::{SignedSearch, SignedSuperBlock};
use super::fit::symmetric::Symmetric;
use super::fit::unit::{FAR_BEYOND, even_steps};
use super::format::{BlockFormat, Importance, Levels, MAX_SUB_BLOCKS, Step};
use super::k_scales::{SignedScales, read_f16, write_f16};
use crate::{QK_K, TensorType};

/// The format Q3_K.
#[derive(Clone, Copy, Debug)]
pub struct Q3K;

const SUB_BLOCK: Symmetric =
    Symmetric { lowest: -4.0, highest: 3.0, trials: &[-1.0, -0.5, 0.0, 0.5, 1.0], refits: 1 };

const SEARCH: SignedSuperBlock = SignedSuperBlock {
    lowest_code: -32.0,
    plain: SignedSearch {
        sub_block: SUB_BLOCK,
        top_codes: &[even_steps(1.1, 0.78)],
        finer: 2,
        coarser: 2,
        both_signs: true,
    },
    weighted: SignedSearch {
        sub_block: SUB_BLOCK,
        top_codes: &[even_steps(1.1, 0.78), FAR_BEYOND],
        finer: 16,
        coarser: 4,
        both_signs: true,
    },
};

impl BlockFormat<QK_K, 110> for Q3K {
    const TYPE: TensorType = TensorType::Q3_K;
    const SUB_BLOCK: usize = 16;
    const LEVELS: Levels = Levels::Uniform { lowest: -4, highest: 3 };
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
    fn pack(scales: &Self::Scales, codes: &[u8; QK_K], out: &mut [u8; 110]) {
        for l in 0..32 {
            out[l] = (0..8).fold(0, |byte, g| byte | (codes[32 * g + l] >> 2) << g);
        }
        for (half, codes) in codes.as_chunks::<128>().0.iter().enumerate() {
            for l in 0..32 {
                out[32 + 32 * half + l] = codes[l] & 3
                    | (codes[l + 32] & 3) << 2
                    | (codes[l + 64] & 3) << 4
                    | (codes[l + 96] & 3) << 6;
            }
        }
        out[96..108].fill(0);
        for (i, scale) in scales.scales.iter().enumerate() {
            let stored = (scale + 32) as u8;
            out[96 + i % 8] |= (stored & 15) << (4 * (i / 8));
            out[104 + i % 4] |= (stored >> 4) << (2 * (i / 4));
        }
        write_f16(out, 108, scales.d);
    }

    #[inline(always)]
    fn unpack(bytes: &[u8; 110], codes: &mut [u8; QK_K]) -> Self::Scales {
        for (half, codes) in codes.as_chunks_mut::<128>().0.iter_mut().enumerate() {
            for l in 0..32 {
                let (low, high) = (bytes[32 + 32 * half + l], bytes[l] >> (4 * half));
                codes[l] = low & 3 | (high & 1) << 2;
                codes[l + 32] = low >> 2 & 3 | (high >> 1 & 1) << 2;
                codes[l + 64] = low >> 4 & 3 | (high >> 2 & 1) << 2;
                codes[l + 96] = low >> 6 | (high >> 3 & 1) << 2;
            }
        }
        let mut scales = SignedScales { d: read_f16(bytes, 108), ..Default::default() };
        for (i, scale) in scales.scales.iter_mut().enumerate() {
            let low = bytes[96 + i % 8] >> (4 * (i / 8)) & 15;
            let high = bytes[104 + i % 4] >> (2 * (i / 4)) & 3;
            *scale = (low | high << 4) as i8 - 32;
        }
        scales
    }
}
