//! Rounding whole matrices, some rows at a time on every thread.

use pulp::Arch;
use rayon::prelude::*;
use slmc_gguf::TensorType;
use slmc_gguf::blocks::{BlockError, BlockFormat, FormatVisitor, visit_format};

use super::FeedbackFactor;
use super::descent::Descent;
use super::feedback::Targets;
use super::tile::{ROWS, Tile};
use crate::QuantError;
use crate::error::{check_length, count_rows};
use crate::rtn::{quantize_rows, row_bytes};

/// Encodes `weights` (`[n, columns]`) as `ty` into `out`, feeding errors forward and then descending `passes` times over all
/// codes. Parallel over rows, which do not depend on each other; the bytes do not depend on the number of threads. Types
/// without blocks are rounded plainly.
///
/// # Errors
/// Lengths that do not fit; weights that are not finite.
pub fn quantize(
    ty: TensorType,
    weights: &[f32],
    factor: &FeedbackFactor,
    passes: usize,
    out: &mut [u8],
) -> Result<(), QuantError> {
    let columns = factor.columns();
    let count = count_rows("weights", weights.len(), columns)?;
    let row_bytes = row_bytes(ty, columns)?;
    check_length("encoded rows", out, count * row_bytes)?;
    if let Some(index) = weights.iter().position(|w| !w.is_finite()) {
        return Err(BlockError::NonFinite { index, value: weights[index] }.into());
    }
    match visit_format(ty, Rows { weights, factor, passes, out: &mut *out, row_bytes }) {
        Some(()) => Ok(()),
        None => quantize_rows(ty, weights, columns, None, out),
    }
}

struct Rows<'a> {
    weights: &'a [f32],
    factor: &'a FeedbackFactor,
    passes: usize,
    out: &'a mut [u8],
    row_bytes: usize,
}

impl FormatVisitor for Rows<'_> {
    type Output = ();

    fn visit<F: BlockFormat<N, BYTES>, const N: usize, const BYTES: usize>(self) {
        let columns = self.factor.columns();
        let rows = self.weights.par_chunks(ROWS * columns);
        rows.zip(self.out.par_chunks_mut(ROWS * self.row_bytes)).for_each_init(
            || (Tile::<F, N, BYTES>::new(columns), Targets::<N>::new(), Descent::new(columns)),
            |(tile, targets, descent), (weights, out)| {
                Arch::new().dispatch(
                    #[inline(always)]
                    || {
                        tile.load(weights);
                        targets.round(tile, self.factor);
                        if self.passes > 0 {
                            descent.run(tile, self.factor.hessian(), self.passes);
                        }
                        tile.pack(out);
                    },
                );
            },
        );
    }
}
