//! Scales and zeros of encoded groups, chosen again by the products of the groups' inputs.

use pulp::{Arch, NullaryFnOnce};
use slmc_gguf::blocks::{GramBlocks, Rounding, Step, refined_step};

use super::grid::IntGrid;
use super::tile::levels;

/// Improves whole rows of encoded groups, on the calling thread; values are finite, and `gram` is of such groups.
pub(crate) fn refine_groups(
    grid: IntGrid,
    rows: &[f32],
    columns: usize,
    gram: &GramBlocks,
    bytes: &mut [u8],
) {
    Arch::new().dispatch(Refine { grid, rows, columns, gram, bytes });
}

/// A type of its own, as the body of a closure need not be compiled for the vector instructions found.
struct Refine<'a> {
    grid: IntGrid,
    rows: &'a [f32],
    columns: usize,
    gram: &'a GramBlocks,
    bytes: &'a mut [u8],
}

impl NullaryFnOnce for Refine<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { grid, rows, columns, gram, bytes } = self;
        let len = grid.group_len();
        let mut codes = vec![0; len];
        let groups = rows.chunks_exact(len).zip(bytes.chunks_exact_mut(grid.group_bytes()));
        for (n, (x, bytes)) in groups.enumerate() {
            refine_group(grid, x, (gram, n * len % columns), bytes, &mut codes);
        }
    }
}

/// A group's step is its scale, its offset −scale · zero.
#[inline(always)]
fn refine_group(grid: IntGrid, x: &[f32], place: (&GramBlocks, usize), bytes: &mut [u8], codes: &mut [u8]) {
    let middle = grid.is_symmetric().then(|| grid.middle());
    let highest = grid.highest();
    let (scale, zero) = {
        let stored = grid.split(bytes);
        (grid.scale(stored.scale), stored.zero)
    };
    let offset = |scale: f32, zero: f32| if middle.is_some() { -0.0 } else { -(scale * zero) };
    let nearest_zero =
        |step: Step| (-step.offset / step.size).round_ties_even().clamp(0.0, f32::from(highest));
    let store = |step: Step| {
        let size = grid.stored_scale(step.size);
        let zero = nearest_zero(Step { size, ..step });
        Step { size, offset: offset(size, if zero.is_finite() { zero } else { 0.0 }) }
    };
    let start = Step { size: scale, offset: offset(scale, f32::from(zero)) };
    let best = refined_step(x, place, Rounding::integers(highest, middle), start, store);
    if best == start {
        return;
    }
    let zero = middle.unwrap_or_else(|| nearest_zero(best) as u8);
    let (inverse, levels) = (1.0 / best.size, levels(grid));
    for (code, x) in codes.iter_mut().zip(x) {
        *code = levels.nearest(x * inverse + f32::from(zero));
    }
    grid.pack(codes, best.size, zero, bytes);
}
