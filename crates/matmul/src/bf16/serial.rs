//! A product on the calling thread.

use std::cell::RefCell;

use super::kernel::{COLUMNS, Left, ROWS, multiply_packed};
use super::pack::{Lanes, pack};
use super::{DEPTH, Target};
use crate::{Onto, Operand};

thread_local! {
    /// The packed operands; they are used anew by every product of the thread.
    static PACKED: RefCell<[Vec<u32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// As [`crate::multiply_at`], with operands that were checked and an inner dimension that is not 0.
///
/// # Safety
/// As that, and the processor has the instructions.
pub unsafe fn multiply_at(target: Target, a: Operand<'_>, right: &[Operand<'_>]) {
    let (m, k) = (a.rows, a.columns);
    PACKED.with_borrow_mut(|[left, packed]| {
        for first in (0..k).step_by(DEPTH) {
            let inner = first..k.min(first + DEPTH);
            let pairs = inner.len().div_ceil(2);
            let onto = if first == 0 { target.onto } else { Onto::Itself };
            let a = Lanes::rows_of(a.columns(inner.clone()));
            // SAFETY: the processor has the instructions.
            unsafe { pack(a, 0..a.panels(ROWS), ROWS, room(left, a.panels(ROWS) * ROWS * pairs)) };
            let mut out = target.out;
            for &b in right {
                let b = Lanes::rows_of(b.rows(inner.clone()).transposed());
                let packed = room(packed, b.panels(COLUMNS) * COLUMNS * pairs);
                // SAFETY: as above, and these columns of the result are the caller's.
                unsafe {
                    pack(b, 0..b.panels(COLUMNS), COLUMNS, packed);
                    let left = Left { packed: left, width: ROWS };
                    multiply_packed(left, packed, [m, b.lanes(), pairs], Target { out, onto, ..target });
                    out = out.add(b.lanes());
                }
            }
        }
    });
}

/// So many values, of which nothing is known.
pub(super) fn room(values: &mut Vec<u32>, len: usize) -> &mut [u32] {
    if values.len() < len {
        values.resize(len, 0);
    }
    &mut values[..len]
}
