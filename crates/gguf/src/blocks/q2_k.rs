//! Q2_K: 16 sub-blocks of 16 weights, 2-bit codes, 4-bit scales and minima (2.625 bits a weight).
//!
//! Layout (ggml `block_q2_K`): 16 bytes scale | min « 4; 64 bytes codes; f16 d; f16 dmin.
//! Byte l of the codes' 32-byte half h holds the codes of weights 128 h + l + {0, 32, 64, 96}, lowest bits first.

use super::fit::affine::{Affine, Offset, grid};
use super::fit::k_affine::{AffineSearch, AffineSuperBlock};
use super::fit::unit::{FAR_BEYOND, even_steps};
use super::format::{BlockFormat, Importance, Levels, MAX_SUB_BLOCKS, Step};
use super::k_scales::{AffineScales, read_f16, write_f16};
use crate::{QK_K, TensorType};

/// The format Q2_K.
#[derive(Clone, Copy, Debug)]
pub struct Q2K;

const SEARCH: AffineSuperBlock = AffineSuperBlock {
    highest_code: 15.0,
    plain: AffineSearch {
        sub_block: Affine {
            highest: 3.0,
            offset: Offset::NotPositive,
            trials: &grid::<_, 9>([-0.5, 0.0, 0.5]),
            refits: 1,
        },
        top_codes: &[even_steps(1.15, 0.8)],
        finer: 1,
        coarser: 2,
        min_reach: 1,
    },
    weighted: AffineSearch {
        sub_block: Affine {
            highest: 3.0,
            offset: Offset::NotPositive,
            trials: &grid::<_, 16>([-0.7, 0.0, 0.7, 1.4]),
            refits: 2,
        },
        top_codes: &[even_steps(1.15, 0.8), FAR_BEYOND],
        finer: 2,
        coarser: 4,
        min_reach: 1,
    },
};

impl BlockFormat<QK_K, 84> for Q2K {
    const TYPE: TensorType = TensorType::Q2_K;
    const SUB_BLOCK: usize = 16;
    const LEVELS: Levels = Levels::Uniform { lowest: 0, highest: 3 };
    type Scales = AffineScales<16>;

    #[inline(always)]
    fn fit(x: &[[f32; QK_K]], importance: Importance<QK_K>, scales: &mut [Self::Scales]) {
        SEARCH.fit::<16, 16>(x, importance, scales);
    }

    #[inline(always)]
    fn stretch(scales: &mut Self::Scales, factor: f32) {
        scales.stretch(factor);
    }

    #[inline(always)]
    fn set_step(scales: &mut Self::Scales, sub_block: usize, step: Step) {
        scales.set_step(sub_block, step, SEARCH.highest_code);
    }

    #[inline(always)]
    fn steps(scales: &Self::Scales) -> [Step; MAX_SUB_BLOCKS] {
        scales.steps()
    }

    #[inline(always)]
    fn pack(scales: &Self::Scales, codes: &[u8; QK_K], out: &mut [u8; 84]) {
        for (byte, (scale, min)) in out.iter_mut().zip(scales.scales.iter().zip(&scales.mins)) {
            *byte = scale | min << 4;
        }
        for (half, codes) in codes.as_chunks::<128>().0.iter().enumerate() {
            for l in 0..32 {
                out[16 + 32 * half + l] =
                    codes[l] | codes[l + 32] << 2 | codes[l + 64] << 4 | codes[l + 96] << 6;
            }
        }
        write_f16(out, 80, scales.d);
        write_f16(out, 82, scales.dmin);
    }

    #[inline(always)]
    fn unpack(bytes: &[u8; 84], codes: &mut [u8; QK_K]) -> Self::Scales {
        let mut scales =
            AffineScales { d: read_f16(bytes, 80), dmin: read_f16(bytes, 82), ..Default::default() };
        for (byte, (scale, min)) in bytes.iter().zip(scales.scales.iter_mut().zip(&mut scales.mins)) {
            (*scale, *min) = (byte & 15, byte >> 4);
        }
        for (half, codes) in codes.as_chunks_mut::<128>().0.iter_mut().enumerate() {
            for l in 0..32 {
                let byte = bytes[16 + 32 * half + l];
                codes[l] = byte & 3;
                codes[l + 32] = byte >> 2 & 3;
                codes[l + 64] = byte >> 4 & 3;
                codes[l + 96] = byte >> 6;
            }
        }
        scales
    }
}
