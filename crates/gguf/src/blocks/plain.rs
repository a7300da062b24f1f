//! F32, F16 and BF16: one value after the other, little-endian.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

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
    match ty {
        TensorType::F32 => {
            for (bytes, value) in out.as_chunks_mut().0.iter_mut().zip(values) {
                *bytes = value.to_le_bytes();
            }
        }
        TensorType::F16 => {
            let (mut limited, mut halves) = ([0.0; CHUNK], [f16::ZERO; CHUNK]);
            for (out, values) in out.as_chunks_mut().0.chunks_mut(CHUNK).zip(values.chunks(CHUNK)) {
                let (limited, halves) = (&mut limited[..values.len()], &mut halves[..values.len()]);
                for (limited, value) in limited.iter_mut().zip(values) {
                    *limited = value.clamp(f16::MIN.to_f32(), f16::MAX.to_f32());
                }
                halves.convert_from_f32_slice(limited);
                for (bytes, half) in out.iter_mut().zip(halves) {
                    *bytes = half.to_le_bytes();
                }
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
