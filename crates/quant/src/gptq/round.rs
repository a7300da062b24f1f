//! Rounding whole matrices, some rows at a time on every thread.

use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;
use slmc_gguf::TensorType;
use slmc_gguf::blocks::{BlockError, BlockFormat, FormatVisitor, visit_format};

use super::FeedbackFactor;
use super::descent::Descent;
use super::feedback::Targets;
use super::order::{Order, by_activation};
use super::tile::{ROWS, Tile};
use crate::error::{check_length, count_rows};
use crate::rtn::{quantize_rows, row_bytes};
use crate::{Grid, QuantError};

/// Encodes `weights` (`[n, columns]`) as `ty` into `out`, feeding errors forward, whole blocks in `order`, and then descending
/// `passes` times over all codes. Parallel over rows, which do not depend on each other; the bytes do not depend on the number
/// of threads. Types without blocks are rounded plainly.
///
/// Where `free` (`[n, columns]`) is false, 0 is stored, and what that loses is fed forward as any other error, as SparseGPT does
/// (Frantar and Alistarh, arXiv 2301.00774, section 3.5).
///
/// Rounding blocks in the order of their activations is group-aware reordering (Gafni et al., arXiv 2505.14638; GPTQModel's
/// `act_group_aware`). Measured on an 11.5M-parameter Llama, it takes 3 % off the KL divergence of Q4_0 without descent, and
/// nothing with descent or where blocks are longer.
///
/// # Errors
/// Lengths that do not fit; weights that are not finite; weights held at zero in a type without one.
pub fn quantize(
    ty: TensorType,
    weights: &[f32],
    free: Option<&[bool]>,
    factor: &FeedbackFactor,
    passes: usize,
    order: Order,
    out: &mut [u8],
) -> Result<(), QuantError> {
    let columns = factor.columns();
    let count = count_rows("weights", weights.len(), columns)?;
    let row_bytes = row_bytes(ty, columns)?;
    check_length("encoded rows", out, count * row_bytes)?;
    if let Some(index) = weights.iter().position(|w| !w.is_finite()) {
        return Err(BlockError::NonFinite { index, value: weights[index] }.into());
    }
    check_free(ty, weights, free)?;
    let done = match order {
        Order::Natural => visit_format(ty, Rows { weights, free, factor, passes, out: &mut *out, row_bytes }),
        Order::Activation => {
            let (block_len, block_bytes) = (ty.block_len(), ty.block_bytes());
            let ordered = by_activation(factor, block_len)?;
            let (weights, factor) = (&ordered.arrange(weights), &ordered.factor);
            let free = free.map(|free| ordered.arrange(free));
            let free = free.as_deref();
            let done = visit_format(ty, Rows { weights, free, factor, passes, out: &mut *out, row_bytes });
            out.par_chunks_mut(row_bytes).for_each(|row| ordered.put_back(row, block_len, block_bytes));
            done
        }
    };
    match done {
        Some(()) => Ok(()),
        None => match free {
            None => quantize_rows(ty, weights, columns, None, out),
            Some(free) => {
                let held = weights.iter().zip(free).map(|(w, free)| if *free { *w } else { 0.0 });
                quantize_rows(ty, &held.collect::<Vec<_>>(), columns, None, out)
            }
        },
    }
}

/// An error where zeros are to be held that do not fit the weights or the grid.
pub(super) fn check_free(grid: impl Grid, weights: &[f32], free: Option<&[bool]>) -> Result<(), QuantError> {
    let Some(free) = free else { return Ok(()) };
    check_length("flags", free, weights.len())?;
    if grid.holds_zero() { Ok(()) } else { Err(QuantError::NoZero { grid: grid.name() }) }
}

struct Rows<'a> {
    weights: &'a [f32],
    free: Option<&'a [bool]>,
    factor: &'a FeedbackFactor,
    passes: usize,
    out: &'a mut [u8],
    row_bytes: usize,
}

impl FormatVisitor for Rows<'_> {
    type Output = ();

    fn visit<F: BlockFormat<N, BYTES>, const N: usize, const BYTES: usize>(self) {
        let columns = self.factor.columns();
        let rows = self.weights.par_chunks(ROWS * columns).enumerate();
        rows.zip(self.out.par_chunks_mut(ROWS * self.row_bytes)).for_each_init(
            || (Tile::<F, N, BYTES>::new(columns), Targets::<N>::new(), Descent::new()),
            |(tile, targets, descent), ((n, weights), out)| {
                let (factor, passes) = (self.factor, self.passes);
                let free = self.free.map(|free| &free[n * ROWS * columns..][..weights.len()]);
                Arch::new().dispatch(RowsOf { tile, targets, descent, factor, passes, weights, free, out });
            },
        );
    }
}

/// Some rows, which one thread rounds to `F`. A type of its own, as the body of a closure need not be compiled for the
/// vector instructions found.
struct RowsOf<'a, F: BlockFormat<N, BYTES>, const N: usize, const BYTES: usize> {
    tile: &'a mut Tile<F, N, BYTES>,
    targets: &'a mut Targets<N>,
    descent: &'a mut Descent,
    factor: &'a FeedbackFactor,
    passes: usize,
    weights: &'a [f32],
    free: Option<&'a [bool]>,
    out: &'a mut [u8],
}

impl<F: BlockFormat<N, BYTES>, const N: usize, const BYTES: usize> NullaryFnOnce for RowsOf<'_, F, N, BYTES> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { tile, targets, descent, factor, passes, weights, free, out } = self;
        tile.load(weights, free);
        targets.round(tile, factor);
        if passes > 0 {
            descent.run(tile, factor.hessian(), passes);
        }
        tile.pack(out);
    }
}
