//! Elements of safetensors tensors to f32 and back.
//!
//! To f32 every conversion is exact. The loops have no branch and no table, so that the compiler turns them
//! into vector code, and they carry the test for NaN and infinity along: adding one unit of exponent to a
//! magnitude carries into the sign bit exactly when the exponent is all ones, and those carries are or-ed
//! together over a chunk.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use pulp::{Arch, NullaryFnOnce};

use crate::Dtype;

/// Elements between two looks at the accumulated non-finite flag: small enough that finding the culprit
/// again is cheap, large enough that the look is free.
const CHUNK: usize = 4096;

/// The first NaN or infinity in a run of elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NonFinite {
    /// Its position within the run.
    pub index: usize,
    /// Its value.
    pub value: f32,
}

/// Converts little-endian elements to f32.
///
/// `bytes` holds exactly `out.len()` elements of `dtype`, at any alignment. On an error `out` is filled up to
/// at least the element before the culprit, and its other contents are unspecified.
///
/// # Panics
/// If `bytes.len() != out.len() * dtype.bytes()`, or for integers.
pub fn to_f32(dtype: Dtype, bytes: &[u8], out: &mut [f32]) -> Result<(), NonFinite> {
    assert_eq!(
        Some(bytes.len()),
        out.len().checked_mul(dtype.bytes()),
        "elements and output differ in length"
    );
    Arch::new().dispatch(Convert { dtype, bytes, out })
}

/// The conversion, compiled for the vector instructions found.
struct Convert<'a> {
    dtype: Dtype,
    bytes: &'a [u8],
    out: &'a mut [f32],
}

impl NullaryFnOnce for Convert<'_> {
    type Output = Result<(), NonFinite>;

    #[inline(always)]
    fn call(self) -> Result<(), NonFinite> {
        let Self { dtype, bytes, out } = self;
        for (n, (bytes, out)) in bytes.chunks(CHUNK * dtype.bytes()).zip(out.chunks_mut(CHUNK)).enumerate() {
            let finite = match dtype {
                Dtype::F16 => f16_chunk(bytes, out),
                Dtype::BF16 => bf16_chunk(bytes, out),
                Dtype::F32 => f32_chunk(bytes, out),
                Dtype::I32 | Dtype::I64 => panic!("{dtype} elements are no weights"),
            };
            if !finite {
                return Err(locate(dtype, bytes, n * CHUNK));
            }
        }
        Ok(())
    }
}

/// Converts f32 values to little-endian elements, rounding to nearest, ties to even.
///
/// A finite value that overflows to infinity in `dtype` is reported like a NaN: nothing that [`to_f32`]
/// would refuse is written.
///
/// # Panics
/// If `out.len() != values.len() * dtype.bytes()`, or for integers.
pub fn from_f32(dtype: Dtype, values: &[f32], out: &mut [u8]) -> Result<(), NonFinite> {
    assert_eq!(
        Some(out.len()),
        values.len().checked_mul(dtype.bytes()),
        "elements and output differ in length"
    );
    let finite = match dtype {
        Dtype::F16 => narrow_f16(values, out),
        Dtype::BF16 => narrow_bf16(values, out),
        Dtype::F32 => {
            for (value, out) in values.iter().zip(out.as_chunks_mut::<4>().0) {
                *out = value.to_le_bytes();
            }
            values.iter().fold(0, |carries, v| carries | ((v.to_bits() & 0x7fff_ffff) + 0x0080_0000)) >> 31
                == 0
        }
        Dtype::I32 | Dtype::I64 => panic!("{dtype} elements are no weights"),
    };
    if finite {
        return Ok(());
    }
    let representable = |value: f32| match dtype {
        Dtype::F16 => f16::from_f32(value).is_finite(),
        Dtype::BF16 => bf16::from_f32(value).is_finite(),
        Dtype::F32 | Dtype::I32 | Dtype::I64 => value.is_finite(),
    };
    let index = values.iter().position(|v| !representable(*v)).unwrap_or(0);
    Err(NonFinite { index, value: values[index] })
}

/// Exponent and mantissa are re-based; a subnormal, whose implicit bit is missing, gets one for a moment and
/// loses it again by an exact subtraction. No step makes an f32 subnormal, which some processors are slow at.
#[inline(always)]
fn f16_chunk(bytes: &[u8], out: &mut [f32]) -> bool {
    const REBIAS: u32 = (127 - 15) << 23;
    let smallest_normal = f32::from_bits(REBIAS + (1 << 23)); // 2^-14
    let mut carries = 0u16;
    for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
        let element = u16::from_le_bytes(*bytes);
        let magnitude = element & 0x7fff;
        carries |= magnitude + 0x0400;
        let sign = u32::from(element ^ magnitude) << 16;
        let shifted = (u32::from(magnitude) << 13) + REBIAS;
        let subnormal = (f32::from_bits(shifted + (1 << 23)) - smallest_normal).to_bits();
        let bits = if magnitude < 0x0400 { subnormal } else { shifted };
        *out = f32::from_bits(bits | sign);
    }
    carries & 0x8000 == 0
}

#[inline(always)]
fn bf16_chunk(bytes: &[u8], out: &mut [f32]) -> bool {
    let mut carries = 0u16;
    for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
        let element = u16::from_le_bytes(*bytes);
        carries |= (element & 0x7fff) + 0x0080;
        *out = f32::from_bits(u32::from(element) << 16);
    }
    carries & 0x8000 == 0
}

#[inline(always)]
fn f32_chunk(bytes: &[u8], out: &mut [f32]) -> bool {
    let mut carries = 0u32;
    for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
        let element = u32::from_le_bytes(*bytes);
        carries |= (element & 0x7fff_ffff) + 0x0080_0000;
        *out = f32::from_bits(element);
    }
    carries & 0x8000_0000 == 0
}

/// By half's slice conversion, which uses the processor's instruction; same rounding without it.
fn narrow_f16(values: &[f32], out: &mut [u8]) -> bool {
    let mut carries = 0u16;
    let mut halves = [f16::ZERO; 256];
    for (values, out) in values.chunks(halves.len()).zip(out.chunks_mut(2 * halves.len())) {
        let halves = &mut halves[..values.len()];
        halves.convert_from_f32_slice(values);
        for (half, out) in halves.iter().zip(out.as_chunks_mut::<2>().0) {
            carries |= (half.to_bits() & 0x7fff) + 0x0400;
            *out = half.to_le_bytes();
        }
    }
    carries & 0x8000 == 0
}

/// Adds just under half a unit of the last kept place, or exactly half if that place is odd, and cuts.
fn narrow_bf16(values: &[f32], out: &mut [u8]) -> bool {
    let mut carries = 0u32;
    for (value, out) in values.iter().zip(out.as_chunks_mut::<2>().0) {
        let bits = value.to_bits();
        let rounded = (bits & 0x7fff_ffff) + 0x7fff + ((bits >> 16) & 1);
        carries |= rounded + 0x0080_0000;
        *out = ((((bits & 0x8000_0000) | rounded) >> 16) as u16).to_le_bytes();
    }
    carries & 0x8000_0000 == 0
}

/// The first non-finite element of a chunk that is known to hold one and starts at element `first`.
#[cold]
fn locate(dtype: Dtype, chunk: &[u8], first: usize) -> NonFinite {
    let value_of = |element: &[u8]| match dtype {
        Dtype::F16 => f16::from_le_bytes([element[0], element[1]]).to_f32(),
        Dtype::BF16 => bf16::from_le_bytes([element[0], element[1]]).to_f32(),
        _ => f32::from_le_bytes([element[0], element[1], element[2], element[3]]),
    };
    let mut values = chunk.chunks_exact(dtype.bytes()).map(value_of).enumerate();
    let (index, value) = values.find(|(_, value)| !value.is_finite()).unwrap_or((0, f32::NAN));
    NonFinite { index: first + index, value }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every 16-bit pattern, alone: the value is half's, and exactly the non-finite patterns are refused.
    fn all_patterns(dtype: Dtype, reference: impl Fn(u16) -> f32) {
        for pattern in 0..=u16::MAX {
            let mut out = [0.0];
            let result = to_f32(dtype, &pattern.to_le_bytes(), &mut out);
            let expected = reference(pattern);
            if expected.is_finite() {
                assert_eq!(result, Ok(()), "{dtype} {pattern:#06x}");
                assert_eq!(out[0].to_bits(), expected.to_bits(), "{dtype} {pattern:#06x}");
            } else {
                assert_eq!(result.unwrap_err().index, 0, "{dtype} {pattern:#06x}");
            }
        }
    }

    #[test]
    fn f16_is_exact_for_every_pattern() {
        all_patterns(Dtype::F16, |p| f16::from_bits(p).to_f32());
    }

    #[test]
    fn bf16_is_exact_for_every_pattern() {
        all_patterns(Dtype::BF16, |p| bf16::from_bits(p).to_f32());
    }

    #[test]
    fn long_runs_agree_with_single_elements_at_odd_alignment() {
        for (dtype, limit) in [(Dtype::F16, 0x7c00u16), (Dtype::BF16, 0x7f80)] {
            let patterns: Vec<u16> = (0..=u16::MAX).filter(|p| p & 0x7fff < limit).collect();
            let mut bytes = vec![0u8];
            bytes.extend(patterns.iter().flat_map(|p| p.to_le_bytes()));
            let mut out = vec![0.0; patterns.len()];
            to_f32(dtype, &bytes[1..], &mut out).unwrap();
            for (pattern, value) in patterns.iter().zip(&out) {
                let mut one = [0.0];
                to_f32(dtype, &pattern.to_le_bytes(), &mut one).unwrap();
                assert_eq!(value.to_bits(), one[0].to_bits());
            }
        }
    }

    #[test]
    fn the_first_culprit_is_named() {
        for dtype in Dtype::FLOATS {
            let mut values = vec![1.0f32; 3 * CHUNK + 17];
            let mut bytes = vec![0u8; values.len() * dtype.bytes()];
            from_f32(dtype, &values, &mut bytes).unwrap();
            let infinity = [0x00, 0x7c, 0x80, 0x7f];
            for (index, pattern) in [(2 * CHUNK + 5, dtype), (3 * CHUNK + 16, dtype)] {
                let at = index * dtype.bytes();
                match pattern {
                    Dtype::F16 => bytes[at..at + 2].copy_from_slice(&infinity[..2]),
                    Dtype::BF16 => bytes[at..at + 2].copy_from_slice(&infinity[2..]),
                    _ => bytes[at..at + 4].copy_from_slice(&f32::INFINITY.to_le_bytes()),
                }
            }
            let found = to_f32(dtype, &bytes, &mut values).unwrap_err();
            assert_eq!(found, NonFinite { index: 2 * CHUNK + 5, value: f32::INFINITY });
        }
    }

    /// Rounding is half's, over a sweep of all exponents and mantissas and around every midpoint.
    #[test]
    fn rounding_agrees_with_half() {
        let sweep = (0..=u32::MAX).step_by(10_007);
        let midpoints = (0..=u16::MAX).flat_map(|p| {
            let (wide, exact) = (u32::from(p) << 16, f16::from_bits(p).to_f32().to_bits());
            [wide | 0x7fff, wide | 0x8000, wide | 0x8001, exact | 0x0fff, exact | 0x1000, exact | 0x1001]
        });
        let values: Vec<f32> = sweep.chain(midpoints).map(f32::from_bits).collect();
        for dtype in [Dtype::F16, Dtype::BF16] {
            let expected = |value: f32| match dtype {
                Dtype::F16 => f16::from_f32(value).to_bits(),
                _ => bf16::from_f32(value).to_bits(),
            };
            let limit = if dtype == Dtype::F16 { 0x7c00 } else { 0x7f80 };
            let (finite, other): (Vec<f32>, Vec<f32>) =
                values.iter().partition(|value| expected(**value) & 0x7fff < limit);
            let mut bytes = vec![0; finite.len() * 2];
            from_f32(dtype, &finite, &mut bytes).unwrap();
            for (value, bytes) in finite.iter().zip(bytes.as_chunks::<2>().0) {
                assert_eq!(u16::from_le_bytes(*bytes), expected(*value), "{dtype} {value}");
            }
            assert!(other.iter().all(|value| from_f32(dtype, &[*value], &mut [0; 2]).is_err()));
        }
    }

    #[test]
    fn writing_refuses_what_reading_would() {
        let mut out = [0u8; 4];
        let overflow = from_f32(Dtype::F16, &[1.0, 70000.0], &mut out).unwrap_err();
        assert_eq!(overflow, NonFinite { index: 1, value: 70000.0 });
        assert!(from_f32(Dtype::BF16, &[f32::MAX, 0.0], &mut out).is_err());
        assert!(from_f32(Dtype::F32, &[f32::NAN], &mut out).is_err());
        assert!(from_f32(Dtype::BF16, &[70000.0, -1.0], &mut out).is_ok());
    }
}
