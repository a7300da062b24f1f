//! Parts of a product, whose operands are packed once for all of them.

use std::ops::Range;

use rayon::prelude::*;

use super::kernel::{COLUMNS, ROWS, multiply_packed};
use super::panels::{Panels, keep_room, room_for_operands};
use super::{DEPTH, Target};
use crate::parts::{PART_GRID, Part};
use crate::{Onto, Operand};

const _: () = assert!(PART_GRID.is_multiple_of(ROWS) && PART_GRID.is_multiple_of(COLUMNS));

/// As [`crate::parts_of_product`], with operands and parts that were checked, and an inner dimension that is not 0.
///
/// # Safety
/// The processor has the instructions.
pub unsafe fn parts_of_product<T: Send>(
    a: Operand<'_>,
    b: Operand<'_>,
    parts: Vec<(Part, T)>,
    take: impl Fn(T, &[f32]) + Sync,
) {
    let (left_panels, right_panels) = (Panels::of([a], ROWS), Panels::of([b.transposed()], COLUMNS));
    let [mut left, mut right] = room_for_operands();
    // SAFETY: by the caller.
    unsafe {
        left_panels.pack(&mut left);
        right_panels.pack(&mut right);
    }
    let panels = |lanes: &Range<usize>, width: usize| lanes.start / width..lanes.end.div_ceil(width);
    parts.into_par_iter().with_max_len(1).for_each_init(Vec::new, |out, (part, own)| {
        let Part { rows, columns } = &part;
        assert!(
            [rows, columns].iter().all(|lanes| lanes.start.is_multiple_of(PART_GRID)),
            "a part off the grid"
        );
        out.resize(part.values(), 0.0);
        for first in (0..a.columns).step_by(DEPTH) {
            let pairs = (a.columns - first).min(DEPTH).div_ceil(2);
            let onto = if first == 0 { Onto::Zero } else { Onto::Itself };
            let left = left_panels.block(&left, first, panels(rows, ROWS));
            let right = right_panels.block(&right, first, panels(columns, COLUMNS));
            let target = Target { out: out.as_mut_ptr(), row_stride: columns.len(), onto, factor: 1.0 };
            // SAFETY: the processor has the instructions, and there is room for the part.
            unsafe { multiply_packed(left, right, [rows.len(), columns.len(), pairs], target) };
        }
        take(own, &out[..part.values()]);
    });
    keep_room([left, right]);
}
