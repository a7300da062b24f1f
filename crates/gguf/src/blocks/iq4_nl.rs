//! IQ4_NL: blocks of 32 weights, 4-bit codes into a non-uniform table, one f16 scale (4.5 bits a weight).
//!
//! Layout (ggml `block_iq4_nl`): f16 d; 16 bytes codes as in Q4_0.

use half::f16;

use super::format::{BlockFormat, Importance, Levels, MAX_SUB_BLOCKS, Step};
use super::halves::{pack_low, unpack_low};
use super::k_scales::{read_f16, write_f16};
use crate::TensorType;

/// The levels of IQ4_NL and IQ4_XS (ggml `kvalues_iq4nl`).
pub(super) const CODEBOOK: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// The format IQ4_NL.
#[derive(Clone, Copy, Debug)]
pub struct Iq4Nl;

impl BlockFormat<32, 18> for Iq4Nl {
    const TYPE: TensorType = TensorType::IQ4_NL;
    const SUB_BLOCK: usize = 32;
    const LEVELS: Levels = Levels::Codebook(&CODEBOOK);
    type Scales = f16;

    #[inline(always)]
    fn fit(x: &[[f32; 32]], importance: Importance<32>, scales: &mut [Self::Scales]) {
        let _ = (x, importance, scales);
        todo!("the fit lands next")
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
