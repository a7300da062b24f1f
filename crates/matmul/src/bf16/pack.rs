//! Rounding an operand to bfloat16 in the order in which the inner loop reads it.

use std::arch::x86_64::*;
use std::ops::Range;

use crate::Operand;

/// An operand as lanes (rows of the left one, columns of the right one) by inner index.
#[derive(Clone, Copy)]
pub struct Lanes<'a> {
    values: &'a [f32],
    lanes: usize,
    inner: usize,
    lane_stride: usize,
    inner_stride: usize,
}

impl<'a> Lanes<'a> {
    pub fn rows_of(operand: Operand<'a>) -> Self {
        assert!(operand.end() <= operand.values.len(), "an operand beyond its slice");
        let Operand { values, rows, columns, strides: [lane_stride, inner_stride] } = operand;
        Self { values, lanes: rows, inner: columns, lane_stride, inner_stride }
    }

    /// Some inner indices.
    pub fn inner(self, inner: Range<usize>) -> Self {
        assert!(inner.start <= inner.end && inner.end <= self.inner, "inner indices of an operand");
        let first = (inner.start * self.inner_stride).min(self.values.len());
        Self { values: &self.values[first..], inner: inner.len(), ..self }
    }

    pub fn lanes(&self) -> usize {
        self.lanes
    }

    /// Panels of so many lanes.
    pub fn panels(&self, width: usize) -> usize {
        self.lanes.div_ceil(width)
    }
}

/// Packs some panels of `width` lanes (a multiple of 8), each `[pairs, width]`: a value holds two neighbouring inner indices of a lane,
/// the first in its lower half. What a panel has beyond the operand is 0. There are as many values in `out`.
///
/// # Safety
/// The processor has AVX2, AVX512F, AVX512BW, AVX512VL and AVX512_BF16.
pub unsafe fn pack(operand: Lanes<'_>, panels: Range<usize>, width: usize, out: &mut [u32]) {
    let pairs = operand.inner.div_ceil(2);
    assert_eq!(out.len(), panels.len() * pairs * width, "room for panels");
    let in_rows = operand.inner_stride == 1;
    assert!(in_rows || operand.lane_stride == 1 || operand.lanes == 1, "one stride of an operand is 1");
    let (eights, in_panel, first) = (panels.len() * width / 8, width / 8, panels.start * width);
    let place = |eight: usize| eight / in_panel * pairs * width + eight % in_panel * 8;
    for eight in (0..eights).step_by(if in_rows { 1 } else { 2 }) {
        let first = first + eight * 8;
        let (lanes, from) = (
            operand.lanes.saturating_sub(first),
            operand.values.as_ptr().wrapping_add(first * operand.lane_stride),
        );
        let to = out.as_mut_ptr().wrapping_add(place(eight));
        // SAFETY: the lanes and inner indices lie inside the operand, whose end was checked; of `out`, eight values of each row of
        // a panel are written, or twice eight.
        unsafe {
            if in_rows {
                turn(from, operand.lane_stride, lanes.min(8), operand.inner, to, width);
            } else {
                let next = (eight + 1 < eights).then(|| out.as_mut_ptr().add(place(eight + 1)));
                let lanes = lanes.min(if next.is_some() { 16 } else { 8 });
                interleave(from, operand.inner_stride, lanes, operand.inner, [Some(to), next], width);
            }
        }
    }
}

/// Eight lanes whose inner indices lie side by side.
///
/// # Safety
/// As [`pack`]; lane i < `lanes` has `inner` values from `from + i · lane_stride` on, and `to` room for eight values in each of the
/// rows of pairs, `width` apart.
#[target_feature(enable = "avx512f,avx512vl,avx512bf16,avx2")]
unsafe fn turn(from: *const f32, lane_stride: usize, lanes: usize, inner: usize, to: *mut u32, width: usize) {
    for first in (0..inner).step_by(16) {
        let count = (inner - first).min(16);
        let mask = ((1u32 << count) - 1) as u16;
        // SAFETY: the mask leaves what the lane has.
        let lane = |lane: usize| match lane < lanes {
            true => unsafe { rounded(_mm512_maskz_loadu_ps(mask, from.add(lane * lane_stride + first))) },
            false => _mm256_setzero_si256(),
        };
        let turned = transposed(std::array::from_fn(lane));
        for (pair, values) in turned.into_iter().take(count.div_ceil(2)).enumerate() {
            // SAFETY: a row of pairs that exists.
            unsafe { _mm256_storeu_si256(to.add((first / 2 + pair) * width).cast(), values) };
        }
    }
}

/// Sixteen lanes that lie side by side: the first eight go to the first place, the others to the second.
///
/// # Safety
/// As [`turn`] for both places, with `lanes` values at `from + i · inner_stride` for the i-th inner index.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn interleave(
    from: *const f32,
    inner_stride: usize,
    lanes: usize,
    inner: usize,
    to: [Option<*mut u32>; 2],
    width: usize,
) {
    let mask = ((1u32 << lanes) - 1) as u16;
    // Of the values of two inner indices, one behind the other, lane by lane.
    let order: [u16; 32] = std::array::from_fn(|at| (at / 2 + at % 2 * 16) as u16);
    for first in (0..inner).step_by(2) {
        // SAFETY: the mask leaves the lanes that exist, and inner indices beyond the last are not read.
        unsafe {
            let order = _mm512_loadu_si512(order.as_ptr().cast());
            let low = _mm512_maskz_loadu_ps(mask, from.wrapping_add(first * inner_stride));
            let high = match first + 1 < inner {
                true => _mm512_maskz_loadu_ps(mask, from.wrapping_add((first + 1) * inner_stride)),
                false => _mm512_setzero_ps(),
            };
            let both = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
            let pairs = _mm512_permutexvar_epi16(order, both);
            let halves = [_mm512_castsi512_si256(pairs), _mm512_extracti64x4_epi64::<1>(pairs)];
            for (to, half) in to.into_iter().zip(halves) {
                if let Some(to) = to {
                    _mm256_storeu_si256(to.add(first / 2 * width).cast(), half);
                }
            }
        }
    }
}

/// Sixteen values in bfloat16, to nearest even.
#[target_feature(enable = "avx512f,avx512bf16")]
fn rounded(values: __m512) -> __m256i {
    // SAFETY: both are 256 bits without invalid patterns.
    unsafe { std::mem::transmute(_mm512_cvtneps_pbh(values)) }
}

/// Rows as columns of an 8 × 8 matrix of 32-bit values.
#[target_feature(enable = "avx2")]
fn transposed(rows: [__m256i; 8]) -> [__m256i; 8] {
    let [a, b, c, d, e, f, g, h] = rows;
    let (ab, cd) = (pairs_of(a, b), pairs_of(c, d));
    let (ef, gh) = (pairs_of(e, f), pairs_of(g, h));
    let (left, right) = (quads_of(ab, cd), quads_of(ef, gh));
    let low = |i: usize| _mm256_permute2x128_si256::<0x20>(left[i], right[i]);
    let high = |i: usize| _mm256_permute2x128_si256::<0x31>(left[i], right[i]);
    [low(0), low(1), low(2), low(3), high(0), high(1), high(2), high(3)]
}

/// Two rows interleaved: columns 0, 1 (and 4, 5), then 2, 3 (and 6, 7).
#[target_feature(enable = "avx2")]
fn pairs_of(a: __m256i, b: __m256i) -> [__m256i; 2] {
    [_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b)]
}

/// Four rows interleaved: column i (and i + 4) for i in 0..4.
#[target_feature(enable = "avx2")]
fn quads_of([low_a, high_a]: [__m256i; 2], [low_b, high_b]: [__m256i; 2]) -> [__m256i; 4] {
    [
        _mm256_unpacklo_epi64(low_a, low_b),
        _mm256_unpackhi_epi64(low_a, low_b),
        _mm256_unpacklo_epi64(high_a, high_b),
        _mm256_unpackhi_epi64(high_a, high_b),
    ]
}
