//! Products with a weight that stays in its file's own format.
//!
//! Making one token of text reads every weight once and computes little with it. Rows in F16, BF16 or a block format are a
//! half to an eighth of their f32 copies: they are decoded on the way into the product, or a few of them into memory that stays
//! in the cache, and nothing is kept but the file's own mapped pages.

use std::fmt::Debug;
use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use slmc_matmul::Onto;
use slmc_matmul::memory::uninitialized;

use super::lanes;
use super::matrix::PANEL;
use crate::error::ModelError;

/// Values decoded at a time for one token's product, where they are not decoded on the way: with the token's input they stay in the
/// second-level cache.
const PIECE: usize = 16 << 10;

/// A matrix `[d_out, d_in]` in a file, decoded when it is needed.
///
/// Measured on a checkpoint of Llama 3.2 1B's shape (`examples/session_speed.rs`; processor time of one thread on a busy
/// machine): loading takes 2 s here and 12 s for a copy in f32, a token 0.17 s from BF16, 0.22 s from Q4_K_M and 0.25 s
/// from the copy; resident are 2.3 GiB, 0.8 GiB and 4.7 GiB.
pub trait StoredRows: Send + Sync + Debug {
    /// Decodes rows, in the checkpoint's order: `out` is `[rows.len(), d_in]`. On the calling thread alone.
    ///
    /// # Errors
    /// Rows that are not there or cannot be decoded; NaN or infinity among them.
    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<(), ModelError>;

    /// The products of rows, all of them read before, with `x` (`[d_in]`): `out` is `[rows.len()]`. On the calling thread alone;
    /// a row's product does not depend on which others are asked for.
    ///
    /// # Errors
    /// As [`StoredRows::read`].
    fn multiply(&self, rows: Range<usize>, x: &[f32], out: &mut [f32]) -> Result<(), ModelError> {
        multiply_decoded(self, rows, x, out)
    }
}

/// [`StoredRows::multiply`] by way of [`StoredRows::read`].
///
/// # Errors
/// As that.
pub fn multiply_decoded<S: StoredRows + ?Sized>(
    stored: &S,
    rows: Range<usize>,
    x: &[f32],
    out: &mut [f32],
) -> Result<(), ModelError> {
    let at_once = (PIECE / x.len()).max(1);
    // SAFETY: what is used of it is read first.
    let mut decoded = unsafe { uninitialized(at_once.min(rows.len()) * x.len()) };
    for (first, y) in rows.step_by(at_once).zip(out.chunks_mut(at_once)) {
        let decoded = &mut decoded[..y.len() * x.len()];
        stored.read(first..first + y.len(), decoded)?;
        Arch::new().dispatch(Dots { rows: decoded, x, y });
    }
    Ok(())
}

/// As [`StoredRows::read`], of a matrix all of whose rows were read before. If its file has been changed since, what
/// cannot be read any more becomes NaN, which no later step makes a number again.
pub(super) fn read_stored(stored: &dyn StoredRows, rows: Range<usize>, out: &mut [f32]) {
    if stored.read(rows, out).is_err() {
        out.fill(f32::NAN);
    }
}

/// The products of a panel's rows with one token's `x`; they are `y`, or added to it.
pub(super) fn multiply_token(
    x: &[f32],
    stored: &dyn StoredRows,
    first_row: usize,
    y: &mut [f32],
    onto: Onto,
) {
    let mut products = [0.0; PANEL];
    let products = &mut products[..y.len()];
    if stored.multiply(first_row..first_row + y.len(), x, products).is_err() {
        products.fill(f32::NAN);
    }
    y.iter_mut().zip(products).for_each(|(y, sum)| match onto {
        Onto::Zero => *y = *sum,
        Onto::Itself => *y += *sum,
    });
}

/// y = W x for some rows of W.
struct Dots<'a> {
    rows: &'a [f32],
    x: &'a [f32],
    y: &'a mut [f32],
}

impl WithSimd for Dots<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for (y, row) in self.y.iter_mut().zip(self.rows.chunks_exact(self.x.len())) {
            *y = lanes::dot(simd, row, self.x);
        }
    }
}
