//! Error feedback on integer grids: the same algorithm as on block formats, where groups may be as long as a row and columns
//! may be rounded in the order of their activations.

mod descent;
mod feedback;
mod tile;

use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;
use slmc_gguf::blocks::BlockError;

use super::FeedbackFactor;
use super::order::{Order, OrderedFactor, by_activation};
use super::round::check_free;
use super::tile::ROWS;
use crate::QuantError;
use crate::error::{check_length, count_rows};
use crate::int::{IntGrid, ScaleRule};
use crate::rtn::row_bytes;
use descent::Descent;
use feedback::Feedback;
use tile::IntTile;

/// How [`quantize_int`] chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntOptions {
    /// How scales are chosen.
    pub scales: ScaleRule,
    /// Which columns are rounded first.
    pub order: Order,
    /// Passes of coordinate descent over codes and scales, behind the feedback.
    pub passes: usize,
}

impl IntOptions {
    /// The paper's algorithm 1; its damping, 0.01 of the diagonal's mean, is [`damping_of_mean`].
    pub const fn paper(order: Order) -> Self {
        Self { scales: ScaleRule::MinMax, order, passes: 0 }
    }
}

/// Encodes `weights` (`[n, columns]`) on `grid` into `out`, feeding errors forward. Parallel over rows, which do not depend
/// on each other; the bytes do not depend on the number of threads.
///
/// In [`Order::Natural`] the scale of a group is fitted to its columns' targets when its first column's turn comes. In
/// [`Order::Activation`] a group's columns come at different times, so all scales are fitted to the weights beforehand, and
/// neighbours share one as ever ("static groups" of the paper's code).
///
/// Where `free` (`[n, columns]`) is false, 0 is stored, and what that loses is fed forward as any other error.
///
/// # Errors
/// Lengths that do not fit; weights that are not finite; a Hessian that cannot be factored in the order asked for.
pub fn quantize_int(
    grid: IntGrid,
    weights: &[f32],
    free: Option<&[bool]>,
    factor: &FeedbackFactor,
    options: &IntOptions,
    out: &mut [u8],
) -> Result<(), QuantError> {
    let columns = factor.columns();
    let count = count_rows("weights", weights.len(), columns)?;
    let row_bytes = row_bytes(grid, columns)?;
    check_length("encoded rows", out, count * row_bytes)?;
    if let Some(index) = weights.iter().position(|w| !w.is_finite()) {
        return Err(BlockError::NonFinite { index, value: weights[index] }.into());
    }
    check_free(grid, weights, free)?;
    let ordered = match options.order {
        Order::Natural => None,
        Order::Activation => Some(by_activation(factor, 1)?),
    };
    let rows = weights.par_chunks(ROWS * columns).enumerate().zip(out.par_chunks_mut(ROWS * row_bytes));
    rows.for_each_init(
        || (IntTile::new(grid, columns), Feedback::new(grid, columns), Descent::new(grid)),
        |(tile, feedback, descent), ((n, weights), out)| {
            let ordered = ordered.as_ref();
            let free = free.map(|free| &free[n * ROWS * columns..][..weights.len()]);
            let rows = Rows { tile, feedback, descent, factor, options, ordered, weights, free, out };
            Arch::new().dispatch(rows);
        },
    );
    Ok(())
}

/// Some rows, which one thread rounds. A type of its own, as the body of a closure need not be compiled for the vector
/// instructions found.
struct Rows<'a> {
    tile: &'a mut IntTile,
    feedback: &'a mut Feedback,
    descent: &'a mut Descent,
    factor: &'a FeedbackFactor,
    options: &'a IntOptions,
    ordered: Option<&'a OrderedFactor>,
    weights: &'a [f32],
    free: Option<&'a [bool]>,
    out: &'a mut [u8],
}

impl NullaryFnOnce for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { tile, feedback, descent, factor, options, ordered, weights, free, out } = self;
        tile.load(weights, free);
        match ordered {
            None => feedback.in_natural_order(tile, factor, options.scales),
            Some(ordered) => {
                tile.fit_all(options.scales, factor.hessian());
                feedback.in_order(tile, ordered);
            }
        }
        if options.passes > 0 {
            descent.run(tile, factor.hessian(), options.passes);
        }
        tile.pack(out);
    }
}
