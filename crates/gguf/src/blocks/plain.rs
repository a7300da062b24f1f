//! F32, F16 and BF16: one value after the other, little-endian.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use pulp::Arch;

use crate::TensorType;

/// Values converted at a time.
const CHUNK: usize = 256;

/// Decodes `out.len()` values; the caller has checked that `bytes` holds them. Quantized types have no plain values.
pub(super) fn decode(ty: TensorType, bytes: &[u8], out: &mut [f32]) {
    match ty {
        TensorType::F32 => {
            for (value, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                *value = f32::from_le_bytes(*bytes);
            }
        }
        TensorType::F16 => {
            let mut halves = [f16::ZERO; CHUNK];
            for (out, bytes) in out.chunks_mut(CHUNK).zip(bytes.as_chunks().0.chunks(CHUNK)) {
                let halves = &mut halves[..out.len()];
                for (half, bytes) in halves.iter_mut().zip(bytes) {
                    *half = f16::from_le_bytes(*bytes);
                }
                halves.convert_to_f32_slice(out);
            }
        }
        TensorType::BF16 => {
            for (value, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                *value = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
            }
        }
        _ => unreachable!("block formats are decoded by their own code"),
    }
}

/// Encodes `values`, each as the nearest finite value of the type, ties to even; the caller has checked that
/// they are finite and that `out` holds them. ggml differs above the type's largest value: it writes infinity.
pub(super) fn encode(ty: TensorType, values: &[f32], out: &mut [u8]) {
    Arch::new().dispatch(
        #[inline(always)]
        || encode_here(ty, values, out),
    );
}

#[inline(always)]
fn encode_here(ty: TensorType, values: &[f32], out: &mut [u8]) {
    match ty {
        TensorType::F32 => {
            for (bytes, value) in out.as_chunks_mut().0.iter_mut().zip(values) {
                *bytes = value.to_le_bytes();
            }
        }
        TensorType::F16 => {
            for (bytes, value) in out.as_chunks_mut().0.iter_mut().zip(values) {
                *bytes = f16_bits(*value).to_le_bytes();
            }
        }
        TensorType::BF16 => {
            for (bytes, value) in out.as_chunks_mut().0.iter_mut().zip(values) {
                let value = value.clamp(bf16::MIN.to_f32(), bf16::MAX.to_f32());
                let bits = value.to_bits();
                // Adding just under half, plus one where the kept part is odd, carries exactly when rounding up.
                let rounded = bits + 0x7fff + (bits >> 16 & 1);
                *bytes = ((rounded >> 16) as u16).to_le_bytes();
            }
        }
        _ => unreachable!("block formats are encoded by their own code"),
    }
}

/// The bits of the f16 nearest to `x`, at most the largest finite one; ties to even. Without branches, so that a
/// loop over it compiles to vectors.
#[inline(always)]
fn f16_bits(x: f32) -> u16 {
    const LARGEST: f32 = 65504.0;
    const SMALLEST_NORMAL: f32 = 6.103_515_6e-5; // 2⁻¹⁴
    let magnitude = x.abs();
    let magnitude = if magnitude < LARGEST { magnitude } else { LARGEST };
    let bits = magnitude.to_bits();
    // Rounds to thirteen bits less by carry, then moves the exponent from bias 127 to 15.
    let normal = (bits + 0xfff + (bits >> 13 & 1)).wrapping_sub(112 << 23) >> 13;
    // Beside 0.5 the last bit of an f32 is worth 2⁻²⁴, an f16's least: the addition rounds.
    let subnormal = (magnitude + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
    let rounded = if magnitude < SMALLEST_NORMAL { subnormal } else { normal };
    (rounded | x.to_bits() >> 31 << 15) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f16_rounding_is_ieee() {
        for bits in 0..=u16::MAX {
            let half = f16::from_bits(bits);
            if !half.is_finite() {
                continue;
            }
            let exact = half.to_f32();
            assert_eq!(f16_bits(exact), bits);
            // Around the value and around the middle to its neighbour, where ties are.
            let next = f16::from_bits(bits.wrapping_add(1)).to_f32();
            let middle = if next.is_finite() { 0.5 * (exact + next) } else { exact };
            for near in [exact, middle] {
                for step in -2i32..=2 {
                    let x = f32::from_bits(near.to_bits().wrapping_add_signed(step));
                    if x.is_finite() && x.abs() <= 65504.0 {
                        assert_eq!(f16_bits(x), f16::from_f32(x).to_bits(), "{x:e}");
                    }
                }
            }
        }
        assert_eq!(f16::from_bits(f16_bits(1e30)), f16::MAX);
        assert_eq!(f16::from_bits(f16_bits(-70000.0)), f16::MIN);
    }
}
