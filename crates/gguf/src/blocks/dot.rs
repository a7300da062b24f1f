//! The product of one encoded row with a vector, decoded on the way: no value of the row is written to memory.
//!
//! Making text reads every weight once a token. Decoding into a buffer first costs more than the file's bytes do.

use std::marker::PhantomData;

use pulp::{Arch, NullaryFnOnce};

use super::BlockError;
use super::check_bytes;
use super::format::{BlockFormat, FormatVisitor, Levels, visit_format};
use crate::TensorType;

/// Sums that run side by side; divides every sub-block.
const LANES: usize = 16;

/// Σ ŵᵢ xᵢ over a row of type `ty`, in f32, in an order that the type and the length alone decide. Plain types must hold finite
/// values.
///
/// # Errors
/// [`BlockError::Bytes`] where `row` is not what `x.len()` values take.
pub fn dot(ty: TensorType, row: &[u8], x: &[f32]) -> Result<f32, BlockError> {
    check_bytes(ty, x.len(), row.len())?;
    struct Visit<'a>(&'a [u8], &'a [f32]);
    impl FormatVisitor for Visit<'_> {
        type Output = f32;
        fn visit<F: BlockFormat<N, BYTES>, const N: usize, const BYTES: usize>(self) -> f32 {
            Arch::new().dispatch(Blocks::<F, N, BYTES>(self.0, self.1, PhantomData))
        }
    }
    Ok(visit_format(ty, Visit(row, x)).unwrap_or_else(|| Arch::new().dispatch(Plain { ty, row, x })))
}

/// A type of its own, as the body of a closure need not be compiled for the vector instructions found.
struct Blocks<'a, F, const N: usize, const BYTES: usize>(&'a [u8], &'a [f32], PhantomData<F>);

impl<F: BlockFormat<N, BYTES>, const N: usize, const BYTES: usize> NullaryFnOnce for Blocks<'_, F, N, BYTES> {
    type Output = f32;

    #[inline(always)]
    fn call(self) -> f32 {
        let (mut codes, mut sums) = ([0; N], [0.0; LANES]);
        for (bytes, x) in self.0.as_chunks().0.iter().zip(self.1.as_chunks::<N>().0) {
            let steps = F::steps(&F::unpack(bytes, &mut codes));
            let sub_blocks = codes.chunks_exact(F::SUB_BLOCK).zip(x.chunks_exact(F::SUB_BLOCK));
            for (i, (codes, x)) in sub_blocks.enumerate() {
                let step = steps[i];
                // size · (code + lowest) + offset = size · code + (size · lowest + offset)
                let constant = match F::LEVELS {
                    Levels::Uniform { lowest, .. } => step.size * lowest as f32 + step.offset,
                    Levels::Codebook(_) => step.offset,
                };
                let (mut products, mut inputs) = ([0.0f32; LANES], [0.0f32; LANES]);
                for (codes, x) in codes.as_chunks::<LANES>().0.iter().zip(x.as_chunks::<LANES>().0) {
                    for l in 0..LANES {
                        let code = match F::LEVELS {
                            Levels::Uniform { .. } => f32::from(codes[l]),
                            Levels::Codebook(table) => f32::from(table[usize::from(codes[l] & 15)]),
                        };
                        products[l] += code * x[l];
                        inputs[l] += x[l];
                    }
                }
                for l in 0..LANES {
                    sums[l] += step.size * products[l] + constant * inputs[l];
                }
            }
        }
        sums.iter().sum()
    }
}

/// A row of F32, F16 or BF16.
struct Plain<'a> {
    ty: TensorType,
    row: &'a [u8],
    x: &'a [f32],
}

impl NullaryFnOnce for Plain<'_> {
    type Output = f32;

    #[inline(always)]
    fn call(self) -> f32 {
        let Self { ty, row, x } = self;
        match ty {
            TensorType::F32 => plain_dot(row.as_chunks().0, x, f32::from_le_bytes),
            TensorType::F16 => plain_dot(row.as_chunks().0, x, half),
            _ => plain_dot(row.as_chunks().0, x, |bytes| {
                f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16)
            }),
        }
    }
}

/// The value of a finite f16: its exponent and fraction in the place of an f32's, times the ratio of their units.
#[inline(always)]
fn half(bytes: [u8; 2]) -> f32 {
    const UNIT: f32 = f32::from_bits((127 + 112) << 23);
    let bits = u32::from(u16::from_le_bytes(bytes));
    f32::from_bits((bits & 0x7fff) << 13 | (bits & 0x8000) << 16) * UNIT
}

#[inline(always)]
fn plain_dot<const BYTES: usize>(row: &[[u8; BYTES]], x: &[f32], value: impl Fn([u8; BYTES]) -> f32) -> f32 {
    // four times the lanes: one sum alone would have every step wait for the one before it
    const WIDTH: usize = 4 * LANES;
    let mut sums = [0.0f32; WIDTH];
    let ((row, row_rest), (x, x_rest)) = (row.as_chunks::<WIDTH>(), x.as_chunks::<WIDTH>());
    for (row, x) in row.iter().zip(x) {
        for l in 0..WIDTH {
            sums[l] += value(row[l]) * x[l];
        }
    }
    let rest: f32 = row_rest.iter().zip(x_rest).map(|(bytes, x)| value(*bytes) * x).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::super::{decode, encode};
    use super::*;

    #[test]
    fn a_half_is_read_exactly() {
        for bits in 0..=u16::MAX {
            let expected = f16::from_bits(bits);
            if expected.is_finite() {
                assert_eq!(half(bits.to_le_bytes()).to_bits(), expected.to_f32().to_bits(), "{bits:x}");
            }
        }
    }

    #[test]
    fn products_are_those_of_the_decoded_row() {
        let mut state = 1u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 16_777_216.0 - 0.5
        };
        for ty in TensorType::ALL {
            // plain types have rows of any length
            for columns in if ty.is_quantized() { [256, 768] } else { [3, 517] } {
                let (w, x): (Vec<f32>, Vec<f32>) = (0..columns).map(|_| (random(), random())).unzip();
                let mut bytes = vec![0; ty.bytes_for(columns).unwrap()];
                encode(ty, &w, columns, None, &mut bytes).unwrap();
                let mut decoded = vec![0.0; columns];
                decode(ty, &bytes, &mut decoded).unwrap();
                let terms: Vec<f64> =
                    decoded.iter().zip(&x).map(|(w, x)| f64::from(*w) * f64::from(*x)).collect();
                let (expected, size) =
                    (terms.iter().sum::<f64>(), terms.iter().map(|t| t.abs()).sum::<f64>());
                let found = f64::from(dot(ty, &bytes, &x).unwrap());
                assert!((found - expected).abs() <= 2e-6 * size, "{ty}: {found}, not {expected}");
                assert!(matches!(dot(ty, &bytes, &x[1..]), Err(BlockError::Bytes { .. })), "{ty}");
            }
        }
    }
}
