//! A product on all threads.

use std::ops::Range;

use rayon::prelude::*;

use super::Target;
use super::kernel::{COLUMNS, ROWS};
use super::panels::{Operands, Share};
use crate::Operand;
use crate::memory::Shared;

/// Rows and columns of a task's share of the result: a block of both operands stays in the second-level cache.
const TILE: [usize; 2] = [32 * ROWS, 8 * COLUMNS];

/// Values of an operand that are packed at a time, in whole tiles: 16 MiB.
const PACKED_VALUES: usize = 8 << 20;

/// As [`super::multiply_at`], on all threads; operands are packed whole, as far as there is room for them.
///
/// # Safety
/// As that.
pub unsafe fn product_at(target: Target, a: Operand<'_>, right: &[Operand<'_>]) {
    let [rows, columns] = TILE.map(|tile| (PACKED_VALUES / a.columns / tile).max(1) * tile);
    let mut out = target.out;
    for right in grouped(right, columns) {
        for first in (0..a.rows).step_by(rows) {
            let a = a.rows(first..a.rows.min(first + rows));
            // SAFETY: these rows and columns of the result are the caller's.
            unsafe { block_at(Target { out: out.add(first * target.row_stride), ..target }, a, &right) };
        }
        // SAFETY: the next columns are the caller's, or there are none.
        out = unsafe { out.add(right.iter().map(|b| b.columns).sum::<usize>()) };
    }
}

/// Matrices side by side, cut into groups of so many columns, or a little more.
fn grouped<'a>(right: &[Operand<'a>], columns: usize) -> Vec<Vec<Operand<'a>>> {
    let (mut groups, mut width) = (vec![Vec::new()], 0);
    for b in right {
        for first in (0..b.columns).step_by(columns) {
            if width >= columns {
                groups.push(Vec::new());
                width = 0;
            }
            let part = b.columns(first..b.columns.min(first + columns));
            width += part.columns;
            groups.last_mut().expect("one at least").push(part);
        }
    }
    groups
}

/// A product whose operands are packed whole.
///
/// # Safety
/// As [`product_at`].
unsafe fn block_at(target: Target, a: Operand<'_>, right: &[Operand<'_>]) {
    // SAFETY: the processor has the instructions.
    let operands = unsafe { Operands::pack(Some(a), right) };
    let tiles: Vec<(Range<usize>, Share)> = (0..a.rows)
        .step_by(TILE[0])
        .flat_map(|row| operands.shares(TILE[1]).map(move |share| (row..a.rows.min(row + TILE[0]), share)))
        .collect();
    let out = Shared(target.out);
    tiles.into_par_iter().with_max_len(1).for_each(|(rows, Share { panels, column, columns })| {
        // SAFETY: tiles are disjoint parts of the result, for which the caller answers.
        unsafe {
            let out = out.get().add(rows.start * target.row_stride + column);
            operands.multiply(rows, panels, columns, Target { out, ..target });
        }
    });
}
