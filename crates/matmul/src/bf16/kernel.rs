//! The inner loop: a tile of the result that stays in registers.

use std::arch::x86_64::{
    __m512bh, __m512i, _mm512_add_ps, _mm512_dpbf16_ps, _mm512_loadu_si512, _mm512_mask_storeu_ps,
    _mm512_maskz_loadu_ps, _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps,
};

use super::Target;
use crate::Onto;

/// Rows of a tile.
pub const ROWS: usize = 8;

/// Columns of a tile: with 24 sums, three vectors of the right operand and one of the left, 28 of 32 registers.
pub const COLUMNS: usize = VECTORS * 16;

const VECTORS: usize = 3;

/// Rows of the left operand, packed in panels of `width` rows, of which there are whole tiles.
#[derive(Clone, Copy)]
pub struct Left<'a> {
    pub packed: &'a [u32],
    pub width: usize,
}

impl<'a> Left<'a> {
    /// The tile that begins with row `first`, a multiple of [`ROWS`], up to the end of its panel.
    fn tile(self, first: usize, pairs: usize) -> Left<'a> {
        let (panel, row) = (first / self.width, first % self.width);
        Left { packed: &self.packed[panel * pairs * self.width..][row..pairs * self.width], ..self }
    }
}

/// The product of packed operands, of `[m, n]` values and so many pairs of inner indices.
///
/// # Safety
/// The processor has AVX512F and AVX512_BF16; the m rows of n values of the target are valid for writing, and for reading if it is added
/// to them.
pub unsafe fn multiply_packed(left: Left<'_>, right: &[u32], [m, n, pairs]: [usize; 3], target: Target) {
    for (j, right) in (0..n).step_by(COLUMNS).zip(right.chunks_exact(pairs * COLUMNS)) {
        for i in (0..m).step_by(ROWS) {
            let left = left.tile(i, pairs);
            let exists = [ROWS.min(m - i), COLUMNS.min(n - j)];
            // SAFETY: the tile lies inside the result, for which the caller answers.
            unsafe {
                let out = target.out.add(i * target.row_stride + j);
                multiply_panels(left, right, exists, Target { out, ..target });
            }
        }
    }
}

/// `left` has `ROWS` values every `width`, `right` is `[pairs, COLUMNS]`, two neighbouring inner indices in each value.
///
/// # Safety
/// The processor has AVX512F and AVX512_BF16; the rows and columns of the tile that exist are valid for writing, and for reading if it
/// is added to them.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn multiply_panels(left: Left<'_>, right: &[u32], [rows, columns]: [usize; 2], tile: Target) {
    let right = right.as_chunks::<COLUMNS>().0;
    assert!(right.len() <= left.packed.len().saturating_sub(ROWS) / left.width + 1, "pairs of a tile");
    let mut sums = [[_mm512_setzero_ps(); VECTORS]; ROWS];
    for (pair, right) in right.iter().enumerate() {
        // SAFETY: there are as many, as asserted.
        let left = unsafe { &*left.packed.as_ptr().add(pair * left.width).cast::<[u32; ROWS]>() };
        // SAFETY: the vectors lie inside the 48 values.
        let right: [__m512bh; VECTORS] =
            std::array::from_fn(|v| unsafe { pairs(_mm512_loadu_si512(right.as_ptr().add(16 * v).cast())) });
        for (sums, &left) in sums.iter_mut().zip(left) {
            let left = pairs(_mm512_set1_epi32(left.cast_signed()));
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum = _mm512_dpbf16_ps(*sum, left, right);
            }
        }
    }
    let factor = _mm512_set1_ps(tile.factor);
    for (row, sums) in sums.into_iter().take(rows).enumerate() {
        for (v, sum) in sums.into_iter().enumerate() {
            let columns = columns.saturating_sub(16 * v).min(16);
            let mask = ((1u32 << columns) - 1) as u16;
            // SAFETY: the mask leaves what exists of the tile.
            unsafe {
                let out = tile.out.add(row * tile.row_stride).wrapping_add(16 * v);
                let before = match tile.onto {
                    Onto::Zero => _mm512_setzero_ps(),
                    Onto::Itself => _mm512_maskz_loadu_ps(mask, out),
                };
                _mm512_mask_storeu_ps(out, mask, _mm512_add_ps(before, _mm512_mul_ps(sum, factor)));
            }
        }
    }
}

/// Sixteen pairs of bfloat16.
#[target_feature(enable = "avx512f")]
fn pairs(values: __m512i) -> __m512bh {
    // SAFETY: both are 512 bits without invalid patterns.
    unsafe { std::mem::transmute(values) }
}
