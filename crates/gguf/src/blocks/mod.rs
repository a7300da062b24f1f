//! The ggml block formats: decoding bit for bit as ggml does, and choosing scales at least as well.
//!
//! A format is one file and one implementation of [`BlockFormat`]: what a stored block means
//! (`unpack`, `steps`, `LEVELS`), how it is laid out (`pack`), and how its scales are chosen (`fit`).
//! What is the same for all of them (rounding to codes, decoding, checks, walking rows) is in this folder once.

mod dot;
mod fit;
mod format;
mod gain;
mod gram;
mod halves;
mod iq4_nl;
mod iq4_xs;
mod k_scales;
mod plain;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod recode;
mod scale_numbers;

pub use dot::dot;
pub(crate) use format::round_ties_even;
pub use format::{
    BlockFormat, FormatVisitor, Importance, Levels, MAX_SUB_BLOCKS, Step, dequantize, quantize, visit_format,
};
pub use gram::{GramBlocks, LONGEST_RUN, Rounding, refined_step};
pub use iq4_nl::Iq4Nl;
pub use iq4_xs::{Iq4Xs, Iq4XsScales};
pub use k_scales::{AffineScales, SignedScales};
pub use q2_k::Q2K;
pub use q3_k::Q3K;
pub use q4_0::Q4_0;
pub use q4_1::{MinScale, Q4_1};
pub use q4_k::Q4K;
pub use q5_0::Q5_0;
pub use q5_1::Q5_1;
pub use q5_k::Q5K;
pub use q6_k::Q6K;
pub use q8_0::Q8_0;
pub use scale_numbers::{ScaleNumbers, rescale, scale_gradient, scale_numbers};

use std::marker::PhantomData;

use pulp::Arch;

use crate::TensorType;
use recode::{Recode, Settle};

/// Why values could not be encoded or bytes not be decoded.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// The bytes given are no whole number of blocks, or not as many as the values need.
    #[error("{ty}: {found} bytes for {values} values, {expected:?} needed")]
    Bytes {
        /// Format of the blocks.
        ty: TensorType,
        /// Values to be read or written.
        values: usize,
        /// Bytes they take; `None` where they are no whole number of blocks.
        expected: Option<usize>,
        /// Bytes given.
        found: usize,
    },
    /// A row is no whole number of blocks, or the values are no whole number of rows.
    #[error("{ty}: {values} values in rows of {columns} are not whole rows of {block}-wide blocks")]
    Shape {
        /// Format of the blocks.
        ty: TensorType,
        /// Values given.
        values: usize,
        /// Values a row.
        columns: usize,
        /// Values a block.
        block: usize,
    },
    /// The importance vector is not one number a column.
    #[error("importance of {found} numbers for {columns} columns")]
    ImportanceLength {
        /// Columns of a row.
        columns: usize,
        /// Numbers given.
        found: usize,
    },
    /// Products of inputs that are not those of the columns, or in runs that blocks do not divide.
    #[error("products of {found} columns in runs of {run} for rows of {columns} columns in {ty}")]
    Gram {
        /// Format of the blocks.
        ty: TensorType,
        /// Columns of a row.
        columns: usize,
        /// Columns that there are products of.
        found: usize,
        /// Columns of a run.
        run: usize,
    },
    /// An importance is negative, infinite or not a number.
    #[error("importance {value} of column {column} is not a finite number of at least 0")]
    Importance {
        /// Column it belongs to.
        column: usize,
        /// What was found.
        value: f32,
    },
    /// Numbers of scales that are not as many as blocks have.
    #[error("{ty}: {found} numbers for the scales of blocks that have {expected}")]
    ScaleNumbers {
        /// Format of the blocks.
        ty: TensorType,
        /// Numbers that the scales are.
        expected: usize,
        /// Numbers given.
        found: usize,
    },
    /// A weight is infinite or not a number.
    #[error("value {value} at index {index} is not finite")]
    NonFinite {
        /// Position among the values given.
        index: usize,
        /// What was found.
        value: f32,
    },
}

/// Decodes whole blocks of type `ty`, bit for bit as ggml's `to_float` of that type.
///
/// # Errors
/// [`BlockError::Bytes`] where `bytes` is not what `out.len()` values take.
pub fn decode(ty: TensorType, bytes: &[u8], out: &mut [f32]) -> Result<(), BlockError> {
    check_bytes(ty, out.len(), bytes.len())?;
    struct Decode<'a>(&'a [u8], &'a mut [f32]);
    impl FormatVisitor for Decode<'_> {
        type Output = ();
        fn visit<F: BlockFormat<N, BYTES>, const N: usize, const BYTES: usize>(self) {
            format::decode_blocks::<F, N, BYTES>(self.0, self.1);
        }
    }
    if visit_format(ty, Decode(bytes, out)).is_none() {
        plain::decode(ty, bytes, out);
    }
    Ok(())
}

/// Whether 0 is among the values of every block of type `ty`, whatever its scales.
pub fn holds_zero(ty: TensorType) -> bool {
    struct HoldsZero;
    impl FormatVisitor for HoldsZero {
        type Output = bool;
        fn visit<F: BlockFormat<N, BYTES>, const N: usize, const BYTES: usize>(self) -> bool {
            match F::LEVELS {
                // formats whose levels begin at 0 have minima
                Levels::Uniform { lowest, .. } => lowest < 0,
                Levels::Codebook(table) => table.contains(&0),
            }
        }
    }
    visit_format(ty, HoldsZero).unwrap_or(true)
}

/// Encodes whole rows of `columns` values as blocks of type `ty`, minimizing Σ w (x − x̂)² in every block.
///
/// `importance` holds one w ≥ 0 a column, the same for every row (for instance the mean square of the inputs that
/// meet the column); without it, and where it is zero throughout a sub-block, every w is 1. Scales that would leave
/// the range of f16 are limited to it. Serial: callers split work by rows, which changes no byte.
///
/// # Errors
/// [`BlockError::Shape`], [`BlockError::Bytes`] and [`BlockError::ImportanceLength`] where the lengths do not fit
/// each other; [`BlockError::Importance`] and [`BlockError::NonFinite`] for values that cannot be used. After an
/// error `out` holds nothing of use.
pub fn encode(
    ty: TensorType,
    rows: &[f32],
    columns: usize,
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<(), BlockError> {
    let block = ty.block_len();
    if columns == 0 || !columns.is_multiple_of(block) || !rows.len().is_multiple_of(columns) {
        return Err(BlockError::Shape { ty, values: rows.len(), columns, block });
    }
    check_bytes(ty, rows.len(), out.len())?;
    if let Some(importance) = importance {
        check_importance(importance, columns)?;
    }
    struct Encode<'a>(&'a [f32], Option<&'a [f32]>, &'a mut [u8]);
    impl FormatVisitor for Encode<'_> {
        type Output = Result<(), usize>;
        fn visit<F: BlockFormat<N, BYTES>, const N: usize, const BYTES: usize>(self) -> Self::Output {
            format::encode_blocks::<F, N, BYTES>(self.0, self.1, self.2)
        }
    }
    let done = visit_format(ty, Encode(rows, importance, out))
        .unwrap_or_else(|| format::first_non_finite(rows).map_or(Ok(()), Err));
    done.map_err(|index| BlockError::NonFinite { index, value: rows[index] })?;
    if !ty.is_quantized() {
        plain::encode(ty, rows, out);
    }
    Ok(())
}

/// Columns of a run in which [`refine`] wants the products of inputs; `None` for types whose bytes it leaves as they are.
pub fn run_len(ty: TensorType) -> Option<usize> {
    struct IsRefined;
    impl FormatVisitor for IsRefined {
        type Output = bool;
        fn visit<F: BlockFormat<N, BYTES>, const N: usize, const BYTES: usize>(self) -> bool {
            !F::LEVELS.are_many()
        }
    }
    // whole sub-blocks of every format
    const RUN: usize = 32;
    visit_format(ty, IsRefined).unwrap_or(false).then_some(RUN)
}

/// Chooses the steps of `bytes`, which [`encode`] made of `rows`, again: by the products of the inputs (see [`GramBlocks`]) instead
/// of their squares. No sub-block's cost rises; types that store values as they are, or with 64 levels or more, stay as they are.
/// Serial, and every row by itself.
///
/// # Errors
/// As [`encode`]; [`BlockError::Gram`] where the products are of other columns.
pub fn refine(
    ty: TensorType,
    rows: &[f32],
    columns: usize,
    gram: &GramBlocks,
    bytes: &mut [u8],
) -> Result<(), BlockError> {
    check_rows(ty, rows, columns, bytes.len())?;
    struct Refine<'a> {
        rows: &'a [f32],
        columns: usize,
        gram: &'a GramBlocks,
        bytes: &'a mut [u8],
    }
    impl FormatVisitor for Refine<'_> {
        type Output = Result<(), BlockError>;
        fn visit<F: BlockFormat<N, BYTES>, const N: usize, const BYTES: usize>(self) -> Self::Output {
            let Self { rows, columns, gram, bytes } = self;
            if F::LEVELS.are_many() {
                return Ok(());
            }
            let (found, run) = (gram.columns(), gram.run_len());
            if found != columns || !run.is_multiple_of(F::SUB_BLOCK) {
                return Err(BlockError::Gram { ty: F::TYPE, columns, found, run });
            }
            let (x, bytes) = (rows.as_chunks::<N>().0, bytes.as_chunks_mut::<BYTES>().0);
            Arch::new().dispatch(
                #[inline(always)]
                || {
                    let blocks = columns / N;
                    for (x, bytes) in x.chunks(blocks).zip(bytes.chunks_mut(blocks)) {
                        gram::refine_row::<F, N, BYTES>(x, gram, bytes);
                    }
                },
            );
            Ok(())
        }
    }
    visit_format(ty, Refine { rows, columns, gram, bytes }).unwrap_or(Ok(()))
}

/// Gives blocks of type `ty` that were stored before the codes nearest to whole rows of `columns` values; their scales stay.
/// Values that the blocks hold already change nothing that they hold. Serial, and every block by itself.
///
/// # Errors
/// As [`encode`].
pub fn recode(ty: TensorType, rows: &[f32], columns: usize, bytes: &mut [u8]) -> Result<(), BlockError> {
    check_rows(ty, rows, columns, bytes.len())?;
    struct Again<'a>(&'a [f32], &'a mut [u8]);
    impl FormatVisitor for Again<'_> {
        type Output = ();
        fn visit<F: BlockFormat<N, BYTES>, const N: usize, const BYTES: usize>(self) {
            let (values, bytes) = (self.0.as_chunks::<N>().0, self.1.as_chunks_mut::<BYTES>().0);
            Arch::new().dispatch(Recode { values, bytes, format: PhantomData::<F> });
        }
    }
    if visit_format(ty, Again(rows, bytes)).is_none() {
        plain::encode(ty, rows, bytes);
    }
    Ok(())
}

/// Moves values no farther than they must to be rounded, under the scales of blocks of type `ty`, to what these hold: a weight to
/// where its code is the nearest one, within 0.45 of the distance to the next level. Types without blocks give the values they hold.
///
/// # Errors
/// As [`encode`].
pub fn settle(ty: TensorType, rows: &mut [f32], columns: usize, bytes: &[u8]) -> Result<(), BlockError> {
    check_rows(ty, rows, columns, bytes.len())?;
    struct Move<'a>(&'a mut [f32], &'a [u8]);
    impl FormatVisitor for Move<'_> {
        type Output = ();
        fn visit<F: BlockFormat<N, BYTES>, const N: usize, const BYTES: usize>(self) {
            let (values, bytes) = (self.0.as_chunks_mut::<N>().0, self.1.as_chunks::<BYTES>().0);
            Arch::new().dispatch(Settle { values, bytes, format: PhantomData::<F> });
        }
    }
    if visit_format(ty, Move(&mut *rows, bytes)).is_none() {
        plain::decode(ty, bytes, rows);
    }
    Ok(())
}

/// Whether `rows` are whole rows of `columns` finite values, for which blocks take `bytes`.
fn check_rows(ty: TensorType, rows: &[f32], columns: usize, bytes: usize) -> Result<(), BlockError> {
    let block = ty.block_len();
    if columns == 0 || !columns.is_multiple_of(block) || !rows.len().is_multiple_of(columns) {
        return Err(BlockError::Shape { ty, values: rows.len(), columns, block });
    }
    check_bytes(ty, rows.len(), bytes)?;
    match format::first_non_finite(rows) {
        Some(index) => Err(BlockError::NonFinite { index, value: rows[index] }),
        None => Ok(()),
    }
}

fn check_importance(importance: &[f32], columns: usize) -> Result<(), BlockError> {
    if importance.len() != columns {
        return Err(BlockError::ImportanceLength { columns, found: importance.len() });
    }
    match importance.iter().position(|w| !w.is_finite() || *w < 0.0) {
        Some(column) => Err(BlockError::Importance { column, value: importance[column] }),
        None => Ok(()),
    }
}

fn check_bytes(ty: TensorType, values: usize, found: usize) -> Result<(), BlockError> {
    let expected = ty.bytes_for(values);
    if expected == Some(found) { Ok(()) } else { Err(BlockError::Bytes { ty, values, expected, found }) }
}
