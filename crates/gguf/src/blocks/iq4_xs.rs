//! IQ4_XS: 8 sub-blocks of 32 weights, 4-bit codes into IQ4_NL's table, 6-bit signed scales (4.25 bits a weight).
//!
//! Layout (ggml `block_iq4_xs`): f16 d; 2 bytes with the high two bits of the scales, first scale lowest;
//! 4 bytes with their low four, two a byte, the even one low; 128 bytes codes, 16 a sub-block as in Q4_0.
//! Scales are stored plus 32.

use half::f16;

use super::fit::codebook::Codebook;
use super::fit::k_codebook::CodebookSuperBlock;
use super::format::{BlockFormat, Importance, Levels, MAX_SUB_BLOCKS, Step};
use super::gain::stretched;
use super::halves::{pack_low, unpack_low};
use super::iq4_nl::{CODEBOOK, floats};
use super::k_scales::{nearest_code, read_f16, write_f16};
use crate::{QK_K, TensorType};

const SEARCH: CodebookSuperBlock = CodebookSuperBlock {
    sub_block: Codebook {
        table: floats(CODEBOOK),
        trials: &[-131.0, -122.0, -113.0, 102.0, 110.0, 118.0],
        refits: 1,
    },
    reach: 2,
    second_reach: 1,
};

/// The format IQ4_XS.
#[derive(Clone, Copy, Debug)]
pub struct Iq4Xs;

/// The step of sub-block i is `d · scales[i]`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Iq4XsScales {
    /// Scale of the scales.
    pub d: f16,
    /// One integer from −32 to 31 a sub-block.
    pub scales: [i8; 8],
}

impl BlockFormat<QK_K, 136> for Iq4Xs {
    const TYPE: TensorType = TensorType::IQ4_XS;
    const SUB_BLOCK: usize = 32;
    const LEVELS: Levels = Levels::Codebook(&CODEBOOK);
    type Scales = Iq4XsScales;

    #[inline(always)]
    fn fit(x: &[[f32; QK_K]], importance: Importance<QK_K>, scales: &mut [Self::Scales]) {
        SEARCH.fit(x, importance, |i, d, integers| scales[i] = Iq4XsScales { d, scales: integers });
    }

    #[inline(always)]
    fn stretch(scales: &mut Self::Scales, factor: f32) {
        scales.d = stretched(scales.d, factor);
    }

    #[inline(always)]
    fn set_step(scales: &mut Self::Scales, sub_block: usize, step: Step) {
        if let Some(scale) = nearest_code(step.size, scales.d, -32.0, 31.0) {
            scales.scales[sub_block] = scale as i8;
        }
    }

    #[inline(always)]
    fn steps(scales: &Iq4XsScales) -> [Step; MAX_SUB_BLOCKS] {
        let d = scales.d.to_f32();
        let mut steps = [Step::symmetric(0.0); MAX_SUB_BLOCKS];
        for (step, scale) in steps.iter_mut().zip(scales.scales) {
            step.size = d * f32::from(scale);
        }
        steps
    }

    #[inline(always)]
    fn pack(scales: &Iq4XsScales, codes: &[u8; QK_K], out: &mut [u8; 136]) {
        write_f16(out, 0, scales.d);
        out[2..8].fill(0);
        for (i, scale) in scales.scales.iter().enumerate() {
            let stored = (scale + 32) as u8;
            out[2 + i / 4] |= (stored >> 4) << (2 * (i % 4));
            out[4 + i / 2] |= (stored & 15) << (4 * (i % 2));
        }
        let sub_blocks = out[8..].as_chunks_mut::<16>().0.iter_mut().zip(codes.as_chunks().0);
        for (out, codes) in sub_blocks {
            pack_low(codes, out);
        }
    }

    #[inline(always)]
    fn unpack(bytes: &[u8; 136], codes: &mut [u8; QK_K]) -> Iq4XsScales {
        let sub_blocks = bytes[8..].as_chunks::<16>().0.iter().zip(codes.as_chunks_mut().0);
        for (bytes, codes) in sub_blocks {
            unpack_low(bytes, codes);
        }
        let mut scales = Iq4XsScales { d: read_f16(bytes, 0), ..Default::default() };
        for (i, scale) in scales.scales.iter_mut().enumerate() {
            let high = bytes[2 + i / 4] >> (2 * (i % 4)) & 3;
            let low = bytes[4 + i / 2] >> (4 * (i % 2)) & 15;
            *scale = (low | high << 4) as i8 - 32;
        }
        scales
    }
}
