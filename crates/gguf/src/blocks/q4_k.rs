//! Q4_K: 8 sub-blocks of 32 weights, 4-bit codes, 6-bit scales and minima (4.5 bits a weight).
//!
//! Layout (ggml `block_q4_K`): f16 d; f16 dmin; 12 bytes scales and minima; 128 bytes codes.
//! Byte 32 g + l of the codes holds weight 64 g + l in its low and weight 64 g + 32 + l in its high half.

use super::fit::affine::{Affine, Offset, grid};
use super::fit::k_affine::{AffineSearch, AffineSuperBlock};
use super::fit::unit::{FAR_BEYOND, even_steps};
use super::format::{BlockFormat, Importance, Levels, MAX_SUB_BLOCKS, Step};
use super::k_scales::{AffineScales, read_f16, write_f16};
use crate::{QK_K, TensorType};

/// The format Q4_K.
#[derive(Clone, Copy, Debug)]
pub struct Q4K;

const SEARCH: AffineSuperBlock = AffineSuperBlock {
    highest_code: 63.0,
    plain: AffineSearch {
        sub_block: Affine {
            highest: 15.0,
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
            highest: 15.0,
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

impl BlockFormat<QK_K, 144> for Q4K {
    const TYPE: TensorType = TensorType::Q4_K;
    const SUB_BLOCK: usize = 32;
    const LEVELS: Levels = Levels::Uniform { lowest: 0, highest: 15 };
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
    fn pack(scales: &Self::Scales, codes: &[u8; QK_K], out: &mut [u8; 144]) {
        write_header(scales, out);
        let groups = out[16..].as_chunks_mut::<32>().0.iter_mut().zip(codes.as_chunks::<64>().0);
        for (out, codes) in groups {
            for l in 0..32 {
                out[l] = codes[l] | codes[l + 32] << 4;
            }
        }
    }

    #[inline(always)]
    fn unpack(bytes: &[u8; 144], codes: &mut [u8; QK_K]) -> Self::Scales {
        let groups = bytes[16..].as_chunks::<32>().0.iter().zip(codes.as_chunks_mut::<64>().0);
        for (bytes, codes) in groups {
            for l in 0..32 {
                codes[l] = bytes[l] & 15;
                codes[l + 32] = bytes[l] >> 4;
            }
        }
        read_header(bytes)
    }
}

/// Writes the 16 bytes that Q4_K and Q5_K begin with: f16 d, f16 dmin, then scales and minima of 6 bits.
/// Those of sub-blocks 0 to 3 are the low six bits of bytes 0 to 3 and 4 to 7; of those of sub-blocks 4 to 7,
/// the low four bits are the halves of bytes 8 to 11 and the high two are the high bits of bytes 0 to 7.
#[inline(always)]
pub(super) fn write_header(scales: &AffineScales<8>, out: &mut [u8]) {
    write_f16(out, 0, scales.d);
    write_f16(out, 2, scales.dmin);
    for i in 0..4 {
        let (scale, min) = (scales.scales[i + 4], scales.mins[i + 4]);
        out[4 + i] = scales.scales[i] | (scale >> 4) << 6;
        out[8 + i] = scales.mins[i] | (min >> 4) << 6;
        out[12 + i] = scale & 15 | (min & 15) << 4;
    }
}

/// The inverse of [`write_header`] (ggml `get_scale_min_k4`).
#[inline(always)]
pub(super) fn read_header(bytes: &[u8]) -> AffineScales<8> {
    let mut scales = AffineScales { d: read_f16(bytes, 0), dmin: read_f16(bytes, 2), ..Default::default() };
    for i in 0..4 {
        scales.scales[i] = bytes[4 + i] & 63;
        scales.mins[i] = bytes[8 + i] & 63;
        scales.scales[i + 4] = bytes[12 + i] & 15 | bytes[4 + i] >> 6 << 4;
        scales.mins[i + 4] = bytes[12 + i] >> 4 | bytes[8 + i] >> 6 << 4;
    }
    scales
}
