//! A product on all threads.

use std::cell::Cell;
use std::ops::Range;

use rayon::prelude::*;

use super::kernel::{COLUMNS, ROWS, multiply_packed};
use super::pack::{Lanes, pack};
use super::serial::room;
use super::{DEPTH, Target};
use crate::memory::Shared;
use crate::{Onto, Operand};

/// Rows and columns of a task's share of the result: a block of both operands stays in the second-level cache.
const TILE: [usize; 2] = [32 * ROWS, 8 * COLUMNS];

/// Panels that a task packs.
const PACKED_AT_ONCE: usize = 4;

/// Values of an operand that are packed at a time, in whole tiles: 16 MiB.
const PACKED_VALUES: usize = 8 << 20;

thread_local! {
    /// The packed operands of products that this thread began. A product takes them away meanwhile: waiting for its tasks the thread may
    /// begin another.
    static PACKED: Cell<[Vec<u32>; 2]> = const { Cell::new([Vec::new(), Vec::new()]) };
}

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
    let [mut left, mut packed] = PACKED.take();
    let left_panels = Panels::of([a], ROWS);
    let right_panels = Panels::of(right.iter().map(|b| b.transposed()), COLUMNS);
    // SAFETY: the processor has the instructions.
    unsafe {
        left_panels.pack(&mut left);
        right_panels.pack(&mut packed);
    }
    let tiles: Vec<(Range<usize>, Share)> = (0..a.rows)
        .step_by(TILE[0])
        .flat_map(|row| right_panels.shares().map(move |share| (row..a.rows.min(row + TILE[0]), share)))
        .collect();
    let out = Shared(target.out);
    tiles.into_par_iter().with_max_len(1).for_each(|(rows, share)| {
        for first in (0..a.columns).step_by(DEPTH) {
            let pairs = (a.columns - first).min(DEPTH).div_ceil(2);
            let onto = if first == 0 { target.onto } else { Onto::Itself };
            let left = left_panels.block(&left, first, rows.start / ROWS..rows.end.div_ceil(ROWS));
            let right = right_panels.block(&packed, first, share.panels.clone());
            // SAFETY: tiles are disjoint parts of the result, for which the caller answers.
            unsafe {
                let out = out.get().add(rows.start * target.row_stride + share.column);
                let shape = [rows.len(), share.columns, pairs];
                multiply_packed(left, right, shape, Target { out, onto, ..target });
            }
        }
    });
    PACKED.set([left, packed]);
}

/// Panels of one or more operands, one block of the inner dimension behind the other.
struct Panels<'a> {
    operands: Vec<(Lanes<'a>, usize)>,
    inner: usize,
    width: usize,
    count: usize,
}

/// Panels of one operand.
struct Share {
    panels: Range<usize>,
    /// Their first column in the result, and how many columns they have there.
    column: usize,
    columns: usize,
}

impl<'a> Panels<'a> {
    /// Of operands' rows, as lanes.
    fn of(operands: impl IntoIterator<Item = Operand<'a>>, width: usize) -> Self {
        let (mut count, mut inner) = (0, 0);
        let operands = operands
            .into_iter()
            .map(|operand| {
                inner = operand.columns;
                let (lanes, first) = (Lanes::rows_of(operand), count);
                count += lanes.panels(width);
                (lanes, first)
            })
            .collect();
        Self { operands, inner, width, count }
    }

    /// Fills `packed`.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn pack(&self, packed: &mut Vec<u32>) {
        let all = room(packed, self.count * self.width * self.inner.next_multiple_of(2) / 2);
        let mut tasks = Vec::new();
        let mut rest = all;
        for first in (0..self.inner).step_by(DEPTH) {
            let inner = first..self.inner.min(first + DEPTH);
            let panel = inner.len().div_ceil(2) * self.width;
            for (lanes, _) in &self.operands {
                let lanes = lanes.inner(inner.clone());
                for begin in (0..lanes.panels(self.width)).step_by(PACKED_AT_ONCE) {
                    let panels = begin..lanes.panels(self.width).min(begin + PACKED_AT_ONCE);
                    let (own, behind) = std::mem::take(&mut rest).split_at_mut(panels.len() * panel);
                    rest = behind;
                    tasks.push((lanes, panels, own));
                }
            }
        }
        tasks.into_par_iter().with_min_len(4).for_each(|(lanes, panels, own)| {
            // SAFETY: by the caller.
            unsafe { pack(lanes, panels, self.width, own) };
        });
    }

    /// Some packed panels of the block of inner indices that begins at `first`.
    fn block<'b>(&self, packed: &'b [u32], first: usize, panels: Range<usize>) -> &'b [u32] {
        let pairs = (self.inner - first).min(DEPTH).div_ceil(2);
        let begin = self.count * self.width * first / 2 + panels.start * self.width * pairs;
        &packed[begin..begin + panels.len() * self.width * pairs]
    }

    /// The columns of the result in shares of [`TILE`].
    fn shares(&self) -> impl Iterator<Item = Share> {
        let mut column = 0;
        self.operands.iter().flat_map(move |&(lanes, first)| {
            let begin = column;
            column += lanes.lanes();
            (0..lanes.lanes()).step_by(TILE[1]).map(move |lane| {
                let columns = (lanes.lanes() - lane).min(TILE[1]);
                let panel = first + lane / COLUMNS;
                Share { panels: panel..panel + columns.div_ceil(COLUMNS), column: begin + lane, columns }
            })
        })
    }
}
