//! What every block format shares: a stored value is `size · level(code) + offset`, with one
//! [`Step`] per sub-block. A format says how steps and codes are stored and how steps are chosen.

use std::marker::PhantomData;

use pulp::{Arch, NullaryFnOnce};

use crate::TensorType;

use super::gain::keep_gain;
use super::scale_numbers::ScaleNumbers;
use super::{Iq4Nl, Iq4Xs, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};

/// Most sub-blocks (groups of weights with one step) a block has in any format.
pub const MAX_SUB_BLOCKS: usize = 16;

/// The affine map from levels to values inside one sub-block, exactly as ggml's decoder computes it
/// in f32: `value = size · level + offset`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Distance between neighbouring integer levels; may be negative or zero.
    pub size: f32,
    /// Value of level 0. −0.0 (which changes no sum) in formats without an offset.
    pub offset: f32,
}

impl Step {
    /// A step without an offset.
    #[inline(always)]
    pub const fn symmetric(size: f32) -> Self {
        Step { size, offset: -0.0 }
    }
}

/// The integers a code can stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Levels {
    /// Consecutive integers `lowest..=highest`; code = level − lowest.
    Uniform {
        /// Level of code 0.
        lowest: i32,
        /// Level of the largest code.
        highest: i32,
    },
    /// An ascending table; code = position in it.
    Codebook(&'static [i8; 16]),
}

impl Levels {
    /// Whether there are so many (64 or more) that it hardly matters which step they have: of Q6_K rounding leaves 0.9999 of the gain.
    #[inline(always)]
    pub fn are_many(self) -> bool {
        const MANY: i32 = 64;
        matches!(self, Levels::Uniform { lowest, highest } if highest - lowest >= MANY - 1)
    }

    /// The level that `code` stands for.
    ///
    /// # Panics
    /// In a codebook, where `code` is above 15.
    #[inline(always)]
    pub fn level(self, code: u8) -> f32 {
        match self {
            Levels::Uniform { lowest, .. } => (i32::from(code) + lowest) as f32,
            Levels::Codebook(table) => f32::from(table[usize::from(code)]),
        }
    }

    /// The code whose level is nearest to `y`; a tie in a codebook goes up, elsewhere to the even level.
    #[inline(always)]
    pub fn nearest(self, y: f32) -> u8 {
        match self {
            Levels::Uniform { lowest, highest } => {
                // The integer is in the low bits of the sum; a checked conversion would cost more than all else.
                let sum = clamp(y, lowest as f32, highest as f32) + ROUNDING;
                sum.to_bits().wrapping_sub(ROUNDING.to_bits()).wrapping_sub(lowest as u32) as u8
            }
            Levels::Codebook(table) => {
                let mut code = 0;
                for pair in table.windows(2) {
                    code += u8::from(y >= 0.5 * (f32::from(pair[0]) + f32::from(pair[1])));
                }
                code
            }
        }
    }
}

/// How much the squared error of each weight counts: one number a column, the same for every row.
#[derive(Clone, Copy, Debug)]
pub struct Importance<'a, const N: usize> {
    /// The blocks of one row; empty where all weights count alike.
    row: &'a [[f32; N]],
    /// Position within the row of the block that is asked for as number 0.
    first: usize,
}

impl<'a, const N: usize> Importance<'a, N> {
    /// All weights count alike.
    pub const UNIFORM: Self = Importance { row: &[], first: 0 };

    /// The importance of rows whose blocks, one after the other, are asked for as 0, 1, …
    /// An empty `row` is [`UNIFORM`](Self::UNIFORM).
    pub fn of_row(row: &'a [[f32; N]]) -> Self {
        Importance { row, first: 0 }
    }

    /// The same importance with block `blocks` as number 0.
    #[inline(always)]
    pub fn skip(self, blocks: usize) -> Self {
        let first = if self.row.is_empty() { 0 } else { (self.first + blocks) % self.row.len() };
        Importance { first, ..self }
    }

    /// True where all weights count alike.
    #[inline(always)]
    pub fn is_uniform(self) -> bool {
        self.row.is_empty()
    }

    /// The importance of block `i`, repeating from row to row; `None` where all weights count alike.
    #[inline(always)]
    pub fn of(self, i: usize) -> Option<&'a [f32; N]> {
        if self.row.is_empty() { None } else { self.row.get((self.first + i) % self.row.len()) }
    }
}

/// One ggml block format of `N` weights in `BYTES` bytes.
///
/// Encoding is `fit`, then `stretch` to keep the gain, then [`quantize`], then `pack`; a method with its own rounding
/// (error feedback) fits first and rounds value by value with `steps` and `LEVELS`.
pub trait BlockFormat<const N: usize, const BYTES: usize> {
    /// The type this describes.
    const TYPE: TensorType;
    /// Weights that share one step; divides `N`.
    const SUB_BLOCK: usize;
    /// What codes stand for.
    const LEVELS: Levels;
    /// Everything a block stores besides its codes, as stored: f16 scales and small integers.
    type Scales: ScaleNumbers + Default + std::fmt::Debug + PartialEq;

    /// Chooses the scales of `x.len()` blocks so that Σ w (x − x̂)² after rounding is small.
    ///
    /// The weights w of block i are `importance.of(i)`, all 1 without importance and in sub-blocks
    /// whose importance is all zero. Values and importance must be finite, importance not negative.
    /// A block gets the same scales whatever other blocks stand beside it.
    fn fit(x: &[[f32; N]], importance: Importance<N>, scales: &mut [Self::Scales]);

    /// Multiplies every step of the block, size and offset, by `factor`, as nearly as it can be stored.
    fn stretch(scales: &mut Self::Scales, factor: f32);

    /// Gives sub-block `sub_block` the step nearest to `step` that can be stored without a change to any other.
    fn set_step(scales: &mut Self::Scales, sub_block: usize, step: Step);

    /// The steps of the block's `N / SUB_BLOCK` sub-blocks, in order; the rest is unused.
    fn steps(scales: &Self::Scales) -> [Step; MAX_SUB_BLOCKS];

    /// Lays scales and codes out as ggml stores them.
    fn pack(scales: &Self::Scales, codes: &[u8; N], out: &mut [u8; BYTES]);

    /// The inverse of [`pack`](Self::pack).
    fn unpack(bytes: &[u8; BYTES], codes: &mut [u8; N]) -> Self::Scales;
}

/// Rounds one block under fixed scales: each code is the one whose value is nearest.
#[inline(always)]
pub fn quantize<F: BlockFormat<N, BYTES>, const N: usize, const BYTES: usize>(
    x: &[f32; N],
    scales: &F::Scales,
    codes: &mut [u8; N],
) {
    let steps = F::steps(scales);
    let blocks = x.chunks_exact(F::SUB_BLOCK).zip(codes.chunks_exact_mut(F::SUB_BLOCK));
    for ((x, codes), step) in blocks.zip(steps) {
        let inverse = if step.size == 0.0 { 0.0 } else { 1.0 / step.size };
        for (x, code) in x.iter().zip(codes) {
            *code = F::LEVELS.nearest((x - step.offset) * inverse);
        }
    }
}

/// The values of one block's codes under its scales.
#[inline(always)]
pub fn dequantize<F: BlockFormat<N, BYTES>, const N: usize, const BYTES: usize>(
    scales: &F::Scales,
    codes: &[u8; N],
    out: &mut [f32; N],
) {
    let steps = F::steps(scales);
    let blocks = out.chunks_exact_mut(F::SUB_BLOCK).zip(codes.chunks_exact(F::SUB_BLOCK));
    for (i, (out, codes)) in blocks.enumerate() {
        let step = steps[i];
        for (value, code) in out.iter_mut().zip(codes) {
            *value = step.size * F::LEVELS.level(*code) + step.offset;
        }
    }
}

/// Decodes whole blocks; the caller has checked the lengths.
pub(super) fn decode_blocks<F: BlockFormat<N, BYTES>, const N: usize, const BYTES: usize>(
    bytes: &[u8],
    out: &mut [f32],
) {
    const { assert!(N == F::TYPE.block_len() && BYTES == F::TYPE.block_bytes()) };
    /// A type of its own, as the body of a closure need not be compiled for the vector instructions found.
    struct Decode<'a, F, const N: usize, const BYTES: usize>(&'a [u8], &'a mut [f32], PhantomData<F>);
    impl<F: BlockFormat<N, BYTES>, const N: usize, const BYTES: usize> NullaryFnOnce for Decode<'_, F, N, BYTES> {
        type Output = ();

        #[inline(always)]
        fn call(self) {
            let mut codes = [0; N];
            for (bytes, out) in self.0.as_chunks().0.iter().zip(self.1.as_chunks_mut().0) {
                let scales = F::unpack(bytes, &mut codes);
                dequantize::<F, N, BYTES>(&scales, &codes, out);
            }
        }
    }
    Arch::new().dispatch(Decode::<F, N, BYTES>(bytes, out, PhantomData));
}

/// Blocks encoded at a time: whole vectors of blocks in every format, and values that stay in the first cache.
const BATCH_VALUES: usize = 4096;

/// Encodes whole blocks; the caller has checked lengths and importance. `Err` is the index of a value that is
/// not finite.
pub(super) fn encode_blocks<F: BlockFormat<N, BYTES>, const N: usize, const BYTES: usize>(
    x: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<(), usize> {
    const { assert!(N == F::TYPE.block_len() && BYTES == F::TYPE.block_bytes()) };
    let importance = Importance::<N>::of_row(importance.map_or(&[], |row| row.as_chunks().0));
    let batch = BATCH_VALUES / N;
    let (x, out) = (x.as_chunks::<N>().0, out.as_chunks_mut::<BYTES>().0);
    Arch::new().dispatch(
        #[inline(always)]
        || {
            let mut scales = [F::Scales::default(); BATCH_VALUES / 32];
            let mut codes = [0; N];
            for (b, (x, out)) in x.chunks(batch).zip(out.chunks_mut(batch)).enumerate() {
                if let Some(i) = first_non_finite(x.as_flattened()) {
                    return Err(b * batch * N + i);
                }
                let scales = &mut scales[..x.len()];
                let importance = importance.skip(b * batch);
                F::fit(x, importance, scales);
                for (i, ((x, out), scales)) in x.iter().zip(out).zip(scales).enumerate() {
                    keep_gain::<F, N, BYTES>(x, importance.of(i), scales);
                    quantize::<F, N, BYTES>(x, scales, &mut codes);
                    F::pack(scales, &codes, out);
                }
            }
            Ok(())
        },
    )
}

/// Position of the first value that is infinite or not a number.
#[inline(always)]
pub(super) fn first_non_finite(x: &[f32]) -> Option<usize> {
    // The whole slice is looked at without a branch a value, so that the loop compiles to vectors.
    let bad = x.iter().fold(0, |bad, v| bad | u32::from(!v.is_finite()));
    if bad == 0 { None } else { x.iter().position(|v| !v.is_finite()) }
}

/// Something to be done with a format that is known only at run time.
pub trait FormatVisitor {
    /// What it results in.
    type Output;
    /// Does it for the format `F`.
    fn visit<F: BlockFormat<N, BYTES>, const N: usize, const BYTES: usize>(self) -> Self::Output;
}

/// Calls `visitor` with the format of `ty`; `None` for F32, F16 and BF16, which have no blocks.
pub fn visit_format<V: FormatVisitor>(ty: TensorType, visitor: V) -> Option<V::Output> {
    Some(match ty {
        TensorType::F32 | TensorType::F16 | TensorType::BF16 => return None,
        TensorType::Q8_0 => visitor.visit::<Q8_0, _, _>(),
        TensorType::Q4_0 => visitor.visit::<Q4_0, _, _>(),
        TensorType::Q4_1 => visitor.visit::<Q4_1, _, _>(),
        TensorType::Q5_0 => visitor.visit::<Q5_0, _, _>(),
        TensorType::Q5_1 => visitor.visit::<Q5_1, _, _>(),
        TensorType::Q2_K => visitor.visit::<Q2K, _, _>(),
        TensorType::Q3_K => visitor.visit::<Q3K, _, _>(),
        TensorType::Q4_K => visitor.visit::<Q4K, _, _>(),
        TensorType::Q5_K => visitor.visit::<Q5K, _, _>(),
        TensorType::Q6_K => visitor.visit::<Q6K, _, _>(),
        TensorType::IQ4_NL => visitor.visit::<Iq4Nl, _, _>(),
        TensorType::IQ4_XS => visitor.visit::<Iq4Xs, _, _>(),
    })
}

/// `x` limited to `low..=high`, in the operand order that compiles to two plain min/max instructions.
#[inline(always)]
pub(super) fn clamp(x: f32, low: f32, high: f32) -> f32 {
    let x = if x > low { x } else { low };
    if x < high { x } else { high }
}

/// 1.5 · 2²³: a sum with it, for |x| < 2²², has no fraction bits, and its low bits are the integer's.
const ROUNDING: f32 = 12_582_912.0;

/// The nearest integer, ties to even, for |x| < 2²².
/// Two additions on every instruction set, where `f32::round_ties_even` is a library call on plain x86-64.
#[inline(always)]
pub(crate) fn round_ties_even(x: f32) -> f32 {
    (x + ROUNDING) - ROUNDING
}
