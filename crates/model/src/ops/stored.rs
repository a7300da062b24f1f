//! Products with a weight that stays in its file's own format.
//!
//! Making one token of text reads every weight once and computes little with it, so the time is that of reading memory.
//! Rows in F16, BF16 or a block format are a half to an eighth of their f32 copies: decoding a few rows into memory that
//! stays in the cache and multiplying them there reads less, and keeps nothing but the file's own mapped pages.

use std::fmt::Debug;
use std::ops::Range;

use pulp::{Arch, NullaryFnOnce};

use super::linear::multiply_rows;
use super::{lanes, uninitialized};
use crate::error::ModelError;

/// Values decoded at a time for one token's product: with the token's input they stay in the second-level cache.
const PIECE: usize = 16 << 10;

/// A matrix `[d_out, d_in]` in a file, decoded when it is needed.
pub trait StoredRows: Send + Sync + Debug {
    /// Decodes rows, in the checkpoint's order: `out` is `[rows.len(), d_in]`. On the calling thread alone.
    ///
    /// # Errors
    /// Rows that are not there or cannot be decoded; NaN or infinity among them.
    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<(), ModelError>;
}

/// As [`StoredRows::read`], of a matrix all of whose rows were read before. If its file has been changed since, what
/// cannot be read any more becomes NaN, which no later step makes a number again.
pub(super) fn read_stored(stored: &dyn StoredRows, rows: Range<usize>, out: &mut [f32]) {
    if stored.read(rows, out).is_err() {
        out.fill(f32::NAN);
    }
}

/// One panel's outputs: `y[token · stride + i]` for the tokens of `x` and the i-th of the rows.
///
/// # Safety
/// `y` is valid for these writes (and reads, if it accumulates), and nobody else uses the elements.
pub(super) unsafe fn multiply_stored(
    x: &[f32],
    d_in: usize,
    (stored, rows): (&dyn StoredRows, Range<usize>),
    y: *mut f32,
    stride: usize,
    accumulate: bool,
) {
    let one_token = x.len() == d_in;
    let at_once = if one_token { (PIECE / d_in).clamp(1, rows.len()) } else { rows.len() };
    // SAFETY: what is used of it is read first.
    let mut decoded = unsafe { uninitialized(at_once * d_in) };
    for first in rows.clone().step_by(at_once) {
        let piece = first..rows.end.min(first + at_once);
        let decoded = &mut decoded[..piece.len() * d_in];
        read_stored(stored, piece.clone(), decoded);
        // SAFETY: by the caller.
        unsafe {
            let y = y.add(first - rows.start);
            if one_token {
                let y = std::slice::from_raw_parts_mut(y, piece.len());
                Arch::new().dispatch(Dots { rows: decoded, x, y, accumulate });
            } else {
                multiply_rows(x, d_in, (decoded, (d_in, 1)), y, stride, accumulate);
            }
        }
    }
}

/// y = W x or y += W x for some rows of W.
struct Dots<'a> {
    rows: &'a [f32],
    x: &'a [f32],
    y: &'a mut [f32],
    accumulate: bool,
}

/// A type of its own, as the body of a closure need not be compiled for the vector instructions found.
impl NullaryFnOnce for Dots<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for (y, row) in self.y.iter_mut().zip(self.rows.chunks_exact(self.x.len())) {
            let sum = lanes::dot(row, self.x);
            *y = if self.accumulate { *y + sum } else { sum };
        }
    }
}
