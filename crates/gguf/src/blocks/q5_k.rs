//! Q5_K: 8 sub-blocks of 32 weights, 5-bit codes, 6-bit scales and minima (5.5 bits a weight).
//!
//! Layout (ggml `block_q5_K`): the 16 bytes Q4_K begins with; 32 bytes high bits; 128 bytes low bits as in Q4_K.
//! Bit g of high byte l belongs to weight 32 g + l.

use super::fit::affine::{Affine, Offset, grid};
use super::fit::k_affine::{AffineSearch, AffineSuperBlock};
use super::fit::unit::{FAR_BEYOND, even_steps};
use super::format::{BlockFormat, Importance, Levels, MAX_SUB_BLOCKS, Step};
use super::k_scales::AffineScales;
use super::q4_k::{read_header, write_header};
use crate::{QK_K, TensorType};

/// The format Q5_K.
#[derive(Clone, Copy, Debug)]
pub struct Q5K;

const SEARCH: AffineSuperBlock = AffineSuperBlock {
    highest_code: 63.0,
    plain: AffineSearch {
        sub_block: Affine {
            highest: 31.0,
            offset: Offset::NotPositive,
            trials: &grid::<_, 16>([-0.8, -0.4, 0.0, 0.4]),
            refits: 1,
        },
        top_codes: &[even_steps(1.15, 0.8)],
        finer: 1,
        coarser: 2,
        min_reach: 1,
    },
    weighted: AffineSearch {
        sub_block: Affine {
            highest: 31.0,
            offset: Offset::NotPositive,
            trials: &grid::<_, 25>([-1.4, -0.7, 0.0, 0.7, 1.4]),
            refits: 2,
        },
        top_codes: &[even_steps(1.15, 0.8), FAR_BEYOND],
        finer: 2,
        coarser: 4,
        min_reach: 1,
    },
};

impl BlockFormat<QK_K, 176> for Q5K {
    const TYPE: TensorType = TensorType::Q5_K;
    const SUB_BLOCK: usize = 32;
    const LEVELS: Levels = Levels::Uniform { lowest: 0, highest: 31 };
    type Scales = AffineScales<8>;

    #[inline(always)]
    fn fit(x: &[[f32; QK_K]], importance: Importance<QK_K>, scales: &mut [Self::Scales]) {
        SEARCH.fit::<32, 8>(x, importance, scales);
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
    fn pack(scales: &Self::Scales, codes: &[u8; QK_K], out: &mut [u8; 176]) {
        write_header(scales, out);
        let (high, low) = out[16..].split_at_mut(32);
        high.fill(0);
        let groups = low.as_chunks_mut::<32>().0.iter_mut().zip(codes.as_chunks::<64>().0);
        for (g, (low, codes)) in groups.enumerate() {
            for l in 0..32 {
                low[l] = codes[l] & 15 | (codes[l + 32] & 15) << 4;
                high[l] |= (codes[l] >> 4 | codes[l + 32] >> 4 << 1) << (2 * g);
            }
        }
    }

    #[inline(always)]
    fn unpack(bytes: &[u8; 176], codes: &mut [u8; QK_K]) -> Self::Scales {
        let (high, low) = bytes[16..].split_at(32);
        let groups = low.as_chunks::<32>().0.iter().zip(codes.as_chunks_mut::<64>().0);
        for (g, (low, codes)) in groups.enumerate() {
            for l in 0..32 {
                let high = high[l] >> (2 * g);
                codes[l] = low[l] & 15 | (high & 1) << 4;
                codes[l + 32] = low[l] >> 4 | (high >> 1 & 1) << 4;
            }
        }
        read_header(bytes)
    }
}
