//! What ggml's CPU backend does to activations before it multiplies them with weights.
//!
//! Each weight type has a fixed companion (`vec_dot_type` in ggml's `type_traits_cpu`): the input row is rounded
//! to it block by block, and the product is taken of the two roundings. A decoder that wants llama.cpp's
//! logits rounds its inputs alike. Sources: `quantize_row_q8_0`, `quantize_row_q8_1` (`ggml-cpu/arch/x86/quants.c`),
//! `quantize_row_q8_K_ref` (`ggml-quants.c`).

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use pulp::Arch;

use crate::blocks::round_ties_even;
use crate::{QK_K, TensorType};

/// What activations are rounded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(non_camel_case_types)] // ggml's names
pub enum ActivationFormat {
    /// Not at all.
    F32,
    /// Each value to IEEE half precision; infinite above 65504, as in ggml.
    F16,
    /// Each value to bfloat16.
    BF16,
    /// Blocks of 32 bytes under an f16 scale.
    Q8_0,
    /// The same values as [`Q8_0`](Self::Q8_0). ggml keeps their sum beside them, in f16 and under the scale before
    /// its rounding, for the minima of the weights: that deviation (under 2⁻¹⁰ of the sum) belongs to no single
    /// value and is not imitated.
    Q8_1,
    /// Blocks of 256 bytes under an f32 scale.
    Q8_K,
}

impl ActivationFormat {
    /// The companion of a weight type.
    pub const fn for_weights(ty: TensorType) -> Self {
        match ty {
            TensorType::F32 => Self::F32,
            TensorType::F16 => Self::F16,
            TensorType::BF16 => Self::BF16,
            TensorType::Q8_0 | TensorType::Q4_0 | TensorType::Q5_0 | TensorType::IQ4_NL => Self::Q8_0,
            TensorType::Q4_1 | TensorType::Q5_1 => Self::Q8_1,
            TensorType::Q2_K
            | TensorType::Q3_K
            | TensorType::Q4_K
            | TensorType::Q5_K
            | TensorType::Q6_K
            | TensorType::IQ4_XS => Self::Q8_K,
        }
    }

    /// Values that share a scale; a row must be a whole number of these.
    pub const fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q8_0 | Self::Q8_1 => 32,
            Self::Q8_K => QK_K,
        }
    }
}

/// Rounds rows of `columns` activations in place to what `format` keeps of them, bit for bit as ggml's
/// x86 CPU backend does. Values that are not finite come out as such, and may spread over their block.
///
/// # Panics
/// Where a row is no whole number of blocks, or `rows` no whole number of rows: the weights that the activations
/// are to meet have been checked for that.
pub fn round_rows(format: ActivationFormat, rows: &mut [f32], columns: usize) {
    let block = format.block_len();
    assert!(
        columns > 0 && columns.is_multiple_of(block) && rows.len().is_multiple_of(columns),
        "{} activations in rows of {columns} are not whole rows of {block}-wide {format:?} blocks",
        rows.len()
    );
    Arch::new().dispatch(
        #[inline(always)]
        || match format {
            ActivationFormat::F32 => {}
            ActivationFormat::F16 => round_to_f16(rows),
            ActivationFormat::BF16 => rows.iter_mut().for_each(|x| *x = bf16::from_f32(*x).to_f32()),
            ActivationFormat::Q8_0 | ActivationFormat::Q8_1 => {
                rows.as_chunks_mut().0.iter_mut().for_each(round_to_q8_0);
            }
            ActivationFormat::Q8_K => rows.as_chunks_mut().0.iter_mut().for_each(round_to_q8_k),
        },
    );
}

fn round_to_f16(rows: &mut [f32]) {
    let mut halves = [f16::ZERO; 256];
    for rows in rows.chunks_mut(halves.len()) {
        let halves = &mut halves[..rows.len()];
        halves.convert_from_f32_slice(rows);
        halves.convert_to_f32_slice(rows);
    }
}

/// Largest |x| as ordered bit patterns: integers compile to a vector maximum where floats, for NaN's sake, do not.
#[inline(always)]
fn largest(x: &[f32]) -> f32 {
    f32::from_bits(x.iter().fold(0, |most: u32, x| most.max(x.to_bits() & 0x7fff_ffff)))
}

/// d = |x|max / 127 stored as f16; x → d · round(x · (127 / |x|max)).
#[inline(always)]
fn round_to_q8_0(x: &mut [f32; 32]) {
    let most = largest(x);
    let d = f16::from_f32(most / 127.0).to_f32();
    let inverse = if most == 0.0 { 0.0 } else { 127.0 / most };
    for x in x {
        *x = d * round_ties_even(*x * inverse);
    }
}

/// The first x of largest magnitude becomes −127: x → round(x · (−127 / xmax)) / (−127 / xmax), in f32.
#[inline(always)]
fn round_to_q8_k(x: &mut [f32; QK_K]) {
    let most = largest(x);
    if most == 0.0 {
        x.fill(0.0);
        return;
    }
    let first = x.iter().find(|x| x.abs() == most).copied().unwrap_or(most);
    let inverse = -127.0 / first;
    let d = 1.0 / inverse;
    for x in x {
        let q = round_ties_even(*x * inverse);
        *x = d * if q < 127.0 { q } else { 127.0 };
    }
}
