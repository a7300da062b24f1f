//! Operands packed whole.

use std::cell::Cell;
use std::ops::Range;

use rayon::prelude::*;

use super::kernel::{COLUMNS, Left, ROWS, multiply_packed};
use super::pack::{Lanes, pack};
use super::serial::room;
use super::{DEPTH, Target};
use crate::{Onto, Operand};

/// Panels that a task packs.
const PACKED_AT_ONCE: usize = 4;

/// More packed pairs than this, 16 MiB, are not kept for the next product.
const KEPT: usize = 4 << 20;

thread_local! {
    static ROOM: Cell<[Vec<u32>; 2]> = const { Cell::new([Vec::new(), Vec::new()]) };
}

/// The left operand of a product and the matrices right of it, side by side, packed for as many tasks as like.
pub struct Operands<'a> {
    inner: usize,
    /// None where it is the right one's transpose, whose panels are its own, too.
    left: Option<Panels<'a>>,
    right: Panels<'a>,
    packed: [Vec<u32>; 2],
}

impl<'a> Operands<'a> {
    /// Packs them; without a left operand the one matrix on the right for both. The room is that of the last product which this thread
    /// began, and is taken away: a thread that waits for the tasks of a product may begin another.
    ///
    /// # Safety
    /// The processor has the instructions.
    pub unsafe fn pack(a: Option<Operand<'a>>, right: &[Operand<'a>]) -> Self {
        let left = a.map(|a| Panels::of([a], ROWS));
        let right = Panels::of(right.iter().map(|b| b.transposed()), COLUMNS);
        let mut packed = ROOM.take();
        // SAFETY: by the caller.
        unsafe {
            if let Some(left) = &left {
                left.pack(&mut packed[0]);
            }
            right.pack(&mut packed[1]);
        }
        Self { inner: right.inner, left, right, packed }
    }

    /// The columns of the result in shares of `tile` columns, which is a multiple of [`COLUMNS`].
    pub fn shares(&self, tile: usize) -> impl Iterator<Item = Share> {
        self.right.shares(tile)
    }

    /// A part of the product, of rows from a multiple of [`ROWS`] on ([`COLUMNS`] without a left operand) and `columns` columns of the
    /// right operand's `panels`.
    ///
    /// # Safety
    /// The processor has the instructions, and the target has the part's rows and columns, for writing, and for reading if it is added to
    /// them.
    pub unsafe fn multiply(&self, rows: Range<usize>, panels: Range<usize>, columns: usize, target: Target) {
        let [left, right] = &self.packed;
        let (of_left, left) = match &self.left {
            Some(panels) => (panels, left),
            None => (&self.right, right),
        };
        assert!(rows.start.is_multiple_of(of_left.width), "rows from a panel on");
        for first in (0..self.inner).step_by(DEPTH) {
            let pairs = (self.inner - first).min(DEPTH).div_ceil(2);
            let onto = if first == 0 { target.onto } else { Onto::Itself };
            let width = of_left.width;
            let left = of_left.block(left, first, rows.start / width..rows.end.div_ceil(width));
            let left = Left { packed: left, width };
            let right = self.right.block(right, first, panels.clone());
            // SAFETY: by the caller.
            unsafe { multiply_packed(left, right, [rows.len(), columns, pairs], Target { onto, ..target }) };
        }
    }
}

impl Drop for Operands<'_> {
    /// Gives the room back.
    fn drop(&mut self) {
        if self.packed.iter().all(|values| values.capacity() <= KEPT) {
            ROOM.set(std::mem::take(&mut self.packed));
        }
    }
}

/// Panels of one or more operands, one block of the inner dimension behind the other.
struct Panels<'a> {
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

    fn shares(&self, tile: usize) -> impl Iterator<Item = Share> {
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
