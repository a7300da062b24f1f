//! IQ4_NL: blocks of 32 weights, 4-bit codes into a non-uniform table, one f16 scale (4.5 bits a weight).
//!
//! Layout (ggml `block_iq4_nl`): f16 d; 16 bytes codes as in Q4_0.

use half::f16;
use pulp::Arch;

use super::fit::codebook::Codebook;
use super::fit::single::{for_each_tile, to_f16};
use super::format::{BlockFormat, Importance, Levels, MAX_SUB_BLOCKS, Step};
use super::gain::stretched;
use super::halves::{pack_low, unpack_low};
use super::k_scales::{read_f16, write_f16};
use crate::TensorType;

/// The levels of IQ4_NL and IQ4_XS (ggml `kvalues_iq4nl`).
pub(super) const CODEBOOK: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

const SEARCH: Codebook = Codebook {
    table: floats(CODEBOOK),
    trials: &[-134.0, -127.0, -121.0, -115.0, -109.0, 101.0, 107.0, 113.0, 119.0, 125.0],
    refits: 2,
};

/// The codebook as numbers to compute with.
pub(super) const fn floats(table: [i8; 16]) -> [f32; 16] {
    let mut floats = [0.0; 16];
    let mut i = 0;
    while i < 16 {
        floats[i] = table[i] as f32;
        i += 1;
    }
    floats
}

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
        let arch = Arch::new();
        for_each_tile(x, importance, scales, |tile, unit, scales| {
            let fitted = SEARCH.fit(arch, tile).scale;
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
