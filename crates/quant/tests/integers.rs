//! Laws of integer grids and of error feedback on them.

#[allow(dead_code)] // not every test program uses everything
mod random;

use proptest::prelude::*;
use random::Random;
use slmc_checkpoint::Dtype;
use slmc_checkpoint::packed::bits;
use slmc_quant::gptq::{FeedbackFactor, IntOptions, Order, quantize_int};
use slmc_quant::int::{GroupSize, ScaleRule};
use slmc_quant::loss::{InputStatistics, output_error};
use slmc_quant::rtn::{dequantize_rows, quantize_rows};
use slmc_quant::{Grid, IntGrid, IntScheme, QuantError};

const COLUMNS: usize = 384; // one window of the descent and a half
const ROWS: usize = 70; // more than a tile, and no whole number of them

fn grids() -> Vec<IntGrid> {
    let mut grids = Vec::new();
    for bits in IntScheme::BITS {
        for group in IntScheme::GROUPS.map(GroupSize::Columns).into_iter().chain([GroupSize::Channel]) {
            for symmetric in [true, false] {
                let dtype = if symmetric { Dtype::F16 } else { Dtype::BF16 };
                grids.push(IntScheme::new(bits, group, symmetric).unwrap().grid(COLUMNS, dtype).unwrap());
            }
        }
    }
    grids
}

/// 2/n Σ x xᵀ of inputs that share a few directions.
fn hessian(random: &mut Random) -> Vec<f32> {
    let (tokens, directions) = (2 * COLUMNS, COLUMNS / 8);
    let basis = random.normals(directions * COLUMNS, 1.0);
    let mut h = vec![0.0f32; COLUMNS * COLUMNS];
    for _ in 0..tokens {
        let mut x = random.normals(COLUMNS, 0.7);
        x.iter_mut().step_by(37).for_each(|x| *x *= 5.0);
        for direction in basis.chunks_exact(COLUMNS) {
            let amount = 0.2 * random.normal() as f32;
            x.iter_mut().zip(direction).for_each(|(x, d)| *x += amount * d);
        }
        for (row, a) in h.chunks_exact_mut(COLUMNS).zip(&x) {
            row.iter_mut().zip(&x).for_each(|(h, b)| *h += 2.0 / tokens as f32 * a * b);
        }
    }
    h
}

fn decoded(grid: IntGrid, bytes: &[u8], columns: usize) -> Vec<f32> {
    let mut values = vec![0.0; bytes.len() / grid.row_bytes(columns).unwrap() * columns];
    dequantize_rows(grid, bytes, columns, &mut values).unwrap();
    values
}

fn plain(grid: IntGrid, weights: &[f32], importance: Option<&[f32]>) -> Vec<u8> {
    let mut bytes = vec![0; weights.len() / COLUMNS * grid.row_bytes(COLUMNS).unwrap()];
    quantize_rows(grid, weights, COLUMNS, importance, &mut bytes).unwrap();
    bytes
}

fn fed(grid: IntGrid, weights: &[f32], factor: &FeedbackFactor, options: IntOptions) -> Vec<u8> {
    let mut bytes = vec![0; weights.len() / COLUMNS * grid.row_bytes(COLUMNS).unwrap()];
    quantize_int(grid, weights, None, factor, &options, &mut bytes).unwrap();
    bytes
}

#[test]
fn feedback_beats_rounding_and_descent_beats_feedback() {
    let mut random = Random(2);
    let (h, w) = (hessian(&mut random), random.normals(ROWS * COLUMNS, 0.02));
    let diagonal: Vec<f32> = h.iter().step_by(COLUMNS + 1).copied().collect();
    let factor = FeedbackFactor::new(h.clone(), COLUMNS, 0.01).unwrap();
    let loss = |grid: IntGrid, bytes: &[u8]| {
        let rounded = decoded(grid, bytes, COLUMNS);
        output_error(&w, &rounded, COLUMNS, InputStatistics::Covariance(&h)).unwrap()
    };
    for grid in grids() {
        let rounded = loss(grid, &plain(grid, &w, Some(&diagonal)));
        for order in [Order::Natural, Order::Activation] {
            let options = IntOptions { scales: ScaleRule::Search, order, passes: 0 };
            let feedback = loss(grid, &fed(grid, &w, &factor, options));
            let descent = loss(grid, &fed(grid, &w, &factor, IntOptions { passes: 2, ..options }));
            println!("{grid} {order:?}: {:.3}, {:.3}", feedback / rounded, descent / rounded);
            assert!(
                feedback < 0.8 * rounded,
                "{grid} {order:?}: {feedback} after feedback, {rounded} before"
            );
            assert!(descent < feedback, "{grid} {order:?}: {descent} after descent, {feedback} before");
        }
    }
}

#[test]
fn searched_scales_lose_less_than_those_of_the_largest_weight() {
    let mut random = Random(5);
    let w = random.normals(64 * COLUMNS, 0.02);
    // a diagonal Hessian feeds nothing forward; powers of 4 have exact roots
    let importance: Vec<f32> = (0..COLUMNS).map(|k| [0.25, 1.0, 4.0, 16.0][k * 7 % 4]).collect();
    let mut h = vec![0.0; COLUMNS * COLUMNS];
    h.iter_mut().step_by(COLUMNS + 1).zip(&importance).for_each(|(h, w)| *h = *w);
    let factor = FeedbackFactor::new(h, COLUMNS, 0.0).unwrap();
    let loss = |values: Vec<f32>| {
        output_error(&w, &values, COLUMNS, InputStatistics::SecondMoments(&importance)).unwrap()
    };
    for grid in grids() {
        let options = IntOptions { scales: ScaleRule::MinMax, order: Order::Natural, passes: 0 };
        let largest = loss(decoded(grid, &fed(grid, &w, &factor, options), COLUMNS));
        let searched = loss(decoded(grid, &plain(grid, &w, Some(&importance)), COLUMNS));
        println!("{grid}: {:.3}", searched / largest);
        assert!(searched < largest, "{grid}: {searched} by search, {largest} by the largest weight");
        // under a diagonal Hessian, with scales fitted beforehand, feedback is plain rounding; scales tried in its course
        // only gain
        let given = IntOptions { scales: ScaleRule::Search, order: Order::Activation, passes: 0 };
        assert!(fed(grid, &w, &factor, given) == plain(grid, &w, Some(&importance)), "{grid}");
        let tried = IntOptions { order: Order::Natural, ..given };
        let tried = loss(decoded(grid, &fed(grid, &w, &factor, tried), COLUMNS));
        assert!(tried <= searched * 1.001, "{grid}: {tried} tried, {searched} searched");
    }
}

#[test]
fn rows_do_not_depend_on_each_other_or_on_threads() {
    let mut random = Random(3);
    let (h, w) = (hessian(&mut random), random.normals(ROWS * COLUMNS, 0.02));
    let factor = FeedbackFactor::new(h, COLUMNS, 0.01).unwrap();
    for grid in grids().into_iter().step_by(5) {
        let options = IntOptions { scales: ScaleRule::Search, order: Order::Activation, passes: 1 };
        let (all, rounded) = (fed(grid, &w, &factor, options), plain(grid, &w, None));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        assert!(all == pool.install(|| fed(grid, &w, &factor, options)), "{grid}");
        let row_bytes = grid.row_bytes(COLUMNS).unwrap();
        for first in [1, 67] {
            let some = &w[first * COLUMNS..];
            assert!(all[first * row_bytes..] == fed(grid, some, &factor, options), "{grid}");
            assert!(rounded[first * row_bytes..] == plain(grid, some, None), "{grid}");
        }
    }
}

#[test]
fn zeros_stay_zero_and_values_on_a_grid_are_found_again() {
    for grid in grids() {
        let bits = grid.scheme().packing().bits;
        let middle = 1 << (bits.min(4) - 1);
        let highest = 2 * middle - 1;
        let step = 0.5; // storable in every dtype, as are its multiples
        let w: Vec<f32> = (0..2 * COLUMNS)
            .map(|i| if i < COLUMNS { 0.0 } else { step * ((i * 7 % (highest + 1)) as f32 - middle as f32) })
            .collect();
        let values = decoded(grid, &plain(grid, &w, None), COLUMNS);
        assert!(values[..COLUMNS].iter().all(|v| *v == 0.0), "{grid}");
        for (v, w) in values.iter().zip(&w) {
            assert!((v - w).abs() <= 0.008 * w.abs(), "{grid}: {v} for {w}");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    assert!(IntScheme::new(5, GroupSize::Channel, true).unwrap_err().contains("2, 3, 4, 8"));
    assert!(IntScheme::new(4, GroupSize::Columns(48), true).unwrap_err().contains("channel"));
    let scheme = IntScheme::new(4, GroupSize::Columns(128), true).unwrap();
    assert_eq!(scheme.grid(192, Dtype::F16), None);
    let grid = scheme.grid(256, Dtype::F16).unwrap();
    let mut out = vec![0; grid.row_bytes(256).unwrap()];
    let mut row = vec![0.5; 256];
    assert!(matches!(grid.encode(&row, 64, None, &mut out), Err(QuantError::Columns { .. })));
    assert!(matches!(grid.encode(&row[1..], 256, None, &mut out), Err(QuantError::Length { .. })));
    assert!(matches!(grid.encode(&row, 256, Some(&[1.0; 128]), &mut out), Err(QuantError::Length { .. })));
    assert!(matches!(grid.encode(&row, 256, Some(&[-1.0; 256]), &mut out), Err(QuantError::Value { .. })));
    row[7] = f32::NAN;
    assert!(matches!(grid.encode(&row, 256, None, &mut out), Err(QuantError::Block(_))));
    assert!(matches!(grid.decode(&out[1..], &mut row), Err(QuantError::Length { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A group's parts are what was packed, and decode to the nearest value of the group's own grid.
    #[test]
    fn every_weight_gets_the_nearest_value(seed in 0u64..1000, which in 0usize..32) {
        let grid = grids()[which];
        let w = Random(seed).normals(COLUMNS, 0.02);
        let bytes = plain(grid, &w, None);
        let values = decoded(grid, &bytes, COLUMNS);
        let (len, bits) = (grid.group_len(), grid.scheme().packing().bits);
        for ((group, w), values) in bytes.chunks_exact(grid.group_bytes()).zip(w.chunks_exact(len)).zip(values.chunks_exact(len)) {
            let group = grid.split(group);
            let mut codes = vec![0; len];
            bits::unpack(group.codes, bits, &mut codes);
            // every value the group can have, decoded through the grid
            let all: Vec<f32> = (0..1u32 << bits).map(|code| value_of(grid, &group, code as u8)).collect();
            for ((w, v), code) in w.iter().zip(values).zip(codes) {
                prop_assert_eq!(all[usize::from(code)], *v);
                let nearest = all.iter().map(|a| (a - w).abs()).fold(f32::INFINITY, f32::min);
                // codes are chosen before values are rounded to the scale's dtype
                prop_assert!((v - w).abs() <= nearest + 0.008 * w.abs() + 1e-7);
            }
        }
    }
}

/// The value of one code in a group, by decoding a group that has it everywhere.
fn value_of(grid: IntGrid, group: &slmc_quant::int::EncodedGroup<'_>, code: u8) -> f32 {
    let mut packed = vec![0; group.codes.len()];
    bits::pack(&vec![code; grid.group_len()], grid.scheme().packing().bits, &mut packed);
    packed.extend_from_slice(group.scale);
    if !grid.scheme().packing().symmetric {
        packed.push(group.zero);
    }
    let mut values = vec![0.0; grid.group_len()];
    grid.decode(&packed, &mut values).unwrap();
    values[0]
}
