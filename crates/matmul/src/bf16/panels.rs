//! Operands packed whole.

use std::cell::Cell;
use std::ops::Range;

use rayon::prelude::*;

use super::DEPTH;
use super::kernel::COLUMNS;
use super::pack::{Lanes, pack};
use super::serial::room;
use crate::Operand;

/// Panels that a task packs.
const PACKED_AT_ONCE: usize = 4;

/// More packed pairs than this, 16 MiB, are not kept for the next product.
const KEPT: usize = 4 << 20;

thread_local! {
    static ROOM: Cell<[Vec<u32>; 2]> = const { Cell::new([Vec::new(), Vec::new()]) };
}

/// Room for packed operands, that of the last product which this thread began. It is taken away: a thread that waits for the tasks of a
/// product may begin another.
pub fn room_for_operands() -> [Vec<u32>; 2] {
    ROOM.take()
}

/// Gives it back.
pub fn keep_room(operands: [Vec<u32>; 2]) {
    if operands.iter().all(|values| values.capacity() <= KEPT) {
        ROOM.set(operands);
    }
}

/// Panels of one or more operands, one block of the inner dimension behind the other.
pub struct Panels<'a> {
    operands: Vec<(Lanes<'a>, usize)>,
    inner: usize,
    width: usize,
    count: usize,
}

/// Panels of one operand.
pub struct Share {
    pub panels: Range<usize>,
    /// Their first column in the result, and how many columns they have there.
    pub column: usize,
    pub columns: usize,
}

impl<'a> Panels<'a> {
    /// Of operands' rows, as lanes.
    pub fn of(operands: impl IntoIterator<Item = Operand<'a>>, width: usize) -> Self {
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
    pub unsafe fn pack(&self, packed: &mut Vec<u32>) {
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
    pub fn block<'b>(&self, packed: &'b [u32], first: usize, panels: Range<usize>) -> &'b [u32] {
        let pairs = (self.inner - first).min(DEPTH).div_ceil(2);
        let begin = self.count * self.width * first / 2 + panels.start * self.width * pairs;
        &packed[begin..begin + panels.len() * self.width * pairs]
    }

    /// The columns of the result in shares of `tile` columns, which is a multiple of [`COLUMNS`].
    pub fn shares(&self, tile: usize) -> impl Iterator<Item = Share> {
        let mut column = 0;
        self.operands.iter().flat_map(move |&(lanes, first)| {
            let begin = column;
            column += lanes.lanes();
            (0..lanes.lanes()).step_by(tile).map(move |lane| {
                let columns = (lanes.lanes() - lane).min(tile);
                let panel = first + lane / COLUMNS;
                Share { panels: panel..panel + columns.div_ceil(COLUMNS), column: begin + lane, columns }
            })
        })
    }
}
