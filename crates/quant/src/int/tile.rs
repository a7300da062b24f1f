//! Plain rounding: 64 groups side by side, whatever rows they stand in.

use pulp::{Arch, NullaryFnOnce};
use slmc_gguf::blocks::Levels;

use super::fit::{ScaleRule, Steps, fit};
use super::grid::IntGrid;
use crate::gptq::tile::{Lanes, ROWS};

/// The codes of a grid.
pub(crate) fn levels(grid: IntGrid) -> Levels {
    Levels::Uniform { lowest: 0, highest: i32::from(grid.highest()) }
}

/// Fits, rounds and packs whole groups of finite values, on the calling thread. `importance` is that of one row, in whole
/// groups; absent or all zero in a group, all its weights count alike.
pub(crate) fn encode_groups(
    grid: IntGrid,
    rule: ScaleRule,
    values: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
) {
    let (len, bytes) = (grid.group_len(), grid.group_bytes());
    let (mut x, mut w) = (vec![[0.0; ROWS]; len], vec![[1.0; ROWS]; len]);
    let mut codes = vec![0; len];
    let groups_a_row = importance.map_or(1, |row| row.len() / len);
    for (batch, (values, out)) in values.chunks(ROWS * len).zip(out.chunks_mut(ROWS * bytes)).enumerate() {
        for (r, group) in values.chunks_exact(len).enumerate() {
            set_lane(&mut x, r, group);
            if let Some(row) = importance {
                let of_group = &row[(batch * ROWS + r) % groups_a_row * len..][..len];
                if of_group.iter().any(|w| *w > 0.0) {
                    set_lane(&mut w, r, of_group);
                } else {
                    w.iter_mut().for_each(|lanes| lanes[r] = 1.0);
                }
            }
        }
        let steps = Arch::new().dispatch(Fit { grid, rule, values: &x, importance: &w });
        for (r, (group, out)) in values.chunks_exact(len).zip(out.chunks_exact_mut(bytes)).enumerate() {
            round(grid, &steps, r, group, &mut codes);
            grid.pack(&codes, steps.size[r], steps.zero[r] as u8, out);
        }
    }
}

/// A type of its own, as the body of a closure need not be compiled for the vector instructions found.
struct Fit<'a> {
    grid: IntGrid,
    rule: ScaleRule,
    values: &'a [Lanes],
    importance: &'a [Lanes],
}

impl NullaryFnOnce for Fit<'_> {
    type Output = Steps;

    #[inline(always)]
    fn call(self) -> Steps {
        fit(self.grid, self.rule, self.values, self.importance)
    }
}

fn set_lane(lanes: &mut [Lanes], r: usize, values: &[f32]) {
    for (lanes, value) in lanes.iter_mut().zip(values) {
        lanes[r] = *value;
    }
}

fn round(grid: IntGrid, steps: &Steps, r: usize, values: &[f32], codes: &mut [u8]) {
    let levels = levels(grid);
    for (code, x) in codes.iter_mut().zip(values) {
        *code = levels.nearest(x * steps.inverse[r] + steps.zero[r]);
    }
}
