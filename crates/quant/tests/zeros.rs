//! Zeros among the weights: which grids hold them, and error feedback that leaves them where they are.

#[allow(dead_code)] // not every test program uses everything
mod random;

use random::Random;
use slmc_checkpoint::Dtype;
use slmc_gguf::TensorType;
use slmc_quant::gptq::{FeedbackFactor, IntOptions, Order, quantize, quantize_int};
use slmc_quant::int::{GroupSize, ScaleRule};
use slmc_quant::loss::{InputStatistics, output_error};
use slmc_quant::rtn::{dequantize_rows, round_trip};
use slmc_quant::{Grid, IntGrid, IntScheme};

const COLUMNS: usize = 512;
const ROWS: usize = 70; // more than a tile, and no whole number of them

fn normal(random: &mut Random, count: usize) -> Vec<f32> {
    (0..count).map(|_| random.normal() as f32).collect()
}

/// Weights of which half are zero, and which are not.
fn pruned(random: &mut Random) -> (Vec<f32>, Vec<bool>) {
    let weights = normal(random, ROWS * COLUMNS);
    let free: Vec<bool> = weights.iter().map(|w| w.abs() > 0.6745).collect();
    (weights.iter().zip(&free).map(|(w, free)| if *free { 0.02 * w } else { 0.0 }).collect(), free)
}

fn factor(random: &mut Random) -> FeedbackFactor {
    let tokens = 2 * COLUMNS;
    let mut h = vec![0.0f32; COLUMNS * COLUMNS];
    for _ in 0..tokens {
        let shared = random.normal() as f32;
        let x: Vec<f32> = normal(random, COLUMNS).iter().map(|x| x + shared).collect();
        for (row, a) in h.chunks_exact_mut(COLUMNS).zip(&x) {
            row.iter_mut().zip(&x).for_each(|(h, b)| *h += 2.0 / tokens as f32 * a * b);
        }
    }
    FeedbackFactor::new(h, COLUMNS, 0.01).unwrap()
}

fn int(bits: u32, group: GroupSize, symmetric: bool) -> IntGrid {
    IntScheme::new(bits, group, symmetric).unwrap().grid(COLUMNS, Dtype::BF16).unwrap()
}

fn int_grids() -> Vec<IntGrid> {
    let groups = [GroupSize::Columns(128), GroupSize::Channel];
    let bits = [2, 4, 8];
    bits.into_iter().flat_map(|b| groups.map(|g| [int(b, g, true), int(b, g, false)])).flatten().collect()
}

/// Zeros that are no zeros any more.
fn lost(free: &[bool], stored: &[f32]) -> usize {
    free.iter().zip(stored).filter(|(free, w)| !**free && **w != 0.0).count()
}

#[test]
fn grids_that_hold_zeros_round_them_to_zeros_and_the_others_do_not() {
    let (weights, free) = pruned(&mut Random(11));
    let mut stored = vec![0.0; weights.len()];
    let importance: Vec<f32> = normal(&mut Random(12), COLUMNS).iter().map(|x| x * x).collect();
    for importance in [None, Some(&importance[..])] {
        for ty in TensorType::ALL {
            round_trip(ty, &weights, COLUMNS, importance, &mut stored).unwrap();
            assert_eq!(ty.holds_zero(), lost(&free, &stored) == 0, "{ty}: {}", lost(&free, &stored));
        }
        for grid in int_grids() {
            round_trip(grid, &weights, COLUMNS, importance, &mut stored).unwrap();
            assert!(grid.holds_zero() && lost(&free, &stored) == 0, "{grid}");
        }
    }
}

#[test]
fn feedback_and_descent_leave_held_zeros_and_still_beat_rounding() {
    let mut random = Random(13);
    let ((weights, free), factor) = (pruned(&mut random), factor(&mut random));
    // what the layer should be has no zeros where the inputs have drifted
    let targets: Vec<f32> = weights.iter().map(|w| w + 0.001 * random.normal() as f32).collect();
    let held: Vec<f32> = targets.iter().zip(&free).map(|(w, free)| if *free { *w } else { 0.0 }).collect();
    let error = |stored: &[f32]| {
        output_error(&targets, stored, COLUMNS, InputStatistics::Covariance(factor.hessian())).unwrap()
    };
    let mut stored = vec![0.0; weights.len()];
    for ty in TensorType::ALL.into_iter().filter(|ty| ty.holds_zero()) {
        let mut bytes = vec![0; ty.bytes_for(weights.len()).unwrap()];
        round_trip(ty, &held, COLUMNS, None, &mut stored).unwrap();
        let mut before = error(&stored);
        for (passes, order) in [(0, Order::Natural), (0, Order::Activation), (2, Order::Natural)] {
            quantize(ty, &targets, Some(&free), &factor, passes, order, &mut bytes).unwrap();
            dequantize_rows(ty, &bytes, COLUMNS, &mut stored).unwrap();
            assert_eq!(lost(&free, &stored), 0, "{ty}, {passes} passes, {order:?}");
            let after = error(&stored);
            assert!(
                ty.block_len() == 1 || order == Order::Activation || after < before,
                "{ty}: {after} {before}"
            );
            before = before.min(after);
        }
    }
    for grid in int_grids() {
        let mut bytes = vec![0; ROWS * Grid::row_bytes(grid, COLUMNS).unwrap()];
        round_trip(grid, &held, COLUMNS, None, &mut stored).unwrap();
        let mut before = error(&stored);
        for (passes, order) in [(0, Order::Natural), (0, Order::Activation), (2, Order::Natural)] {
            let options = IntOptions { scales: ScaleRule::Search, order, passes };
            quantize_int(grid, &targets, Some(&free), &factor, &options, &mut bytes).unwrap();
            dequantize_rows(grid, &bytes, COLUMNS, &mut stored).unwrap();
            assert_eq!(lost(&free, &stored), 0, "{grid}, {passes} passes, {order:?}");
            let after = error(&stored);
            assert!(order == Order::Activation || after < before, "{grid}: {after} {before}");
            before = before.min(after);
        }
    }
}

#[test]
fn holding_nothing_changes_nothing_and_what_cannot_be_held_is_refused() {
    let mut random = Random(14);
    let ((weights, free), factor) = (pruned(&mut random), factor(&mut random));
    let encoded = |ty: TensorType, free: Option<&[bool]>| {
        let mut bytes = vec![0; ty.bytes_for(weights.len()).unwrap()];
        quantize(ty, &weights, free, &factor, 1, Order::Natural, &mut bytes).map(|()| bytes)
    };
    let all = vec![true; weights.len()];
    assert!(encoded(TensorType::Q6_K, Some(&all)).unwrap() == encoded(TensorType::Q6_K, None).unwrap());
    let refused = encoded(TensorType::Q4_K, Some(&free)).unwrap_err().to_string();
    assert_eq!(refused, "q4_k cannot hold zeros");
    assert!(encoded(TensorType::Q4_0, Some(&free[1..])).is_err());
}
