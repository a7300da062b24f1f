//! GPTQ on integer grids against `golden/gptq_int4.py`, an implementation of the paper in float64.

use serde::Deserialize;
use slmc_checkpoint::Dtype;
use slmc_checkpoint::packed::bits;
use slmc_quant::gptq::{FeedbackFactor, IntOptions, Order, damping_of_mean, quantize_int};
use slmc_quant::int::GroupSize;
use slmc_quant::loss::{InputStatistics, output_error};
use slmc_quant::rtn::dequantize_rows;
use slmc_quant::{Grid, IntScheme};

#[derive(Deserialize)]
struct Golden {
    rows: usize,
    columns: usize,
    tokens: usize,
    directions: usize,
    trace: f64,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    group: usize,
    symmetric: bool,
    act_order: bool,
    loss: f64,
    scales: Vec<f32>,
    zeros: Vec<u8>,
    codes: Vec<String>,
}

/// `numbers` of the script.
fn numbers(seed: u64, count: usize) -> Vec<f64> {
    (0..count as u64)
        .map(|i| {
            let mut z = (i + (seed << 32)).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 40) as f64 / f64::from(1 << 23) - 1.0
        })
        .collect()
}

/// `inputs` of the script.
fn inputs(golden: &Golden) -> (Vec<f32>, Vec<f32>) {
    let Golden { rows, columns, tokens, directions, .. } = *golden;
    let (a, b) = (numbers(1, rows * columns), numbers(2, rows * columns));
    let weights = a.iter().zip(b).map(|(a, b)| (a * b) as f32).collect();
    let mut x = numbers(3, tokens * columns);
    let (shared, basis) = (numbers(4, tokens * directions), numbers(5, directions * columns));
    for (x, shared) in x.chunks_exact_mut(columns).zip(shared.chunks_exact(directions)) {
        x.iter_mut().step_by(37).for_each(|x| *x *= 8.0);
        for (amount, direction) in shared.iter().zip(basis.chunks_exact(columns)) {
            x.iter_mut().zip(direction).for_each(|(x, d)| *x += 0.5 * amount * d);
        }
    }
    let mut hessian = vec![0.0f64; columns * columns];
    for x in x.chunks_exact(columns) {
        for (row, a) in hessian.chunks_exact_mut(columns).zip(x) {
            row.iter_mut().zip(x).for_each(|(h, b)| *h += 2.0 / tokens as f64 * a * b);
        }
    }
    (weights, hessian.iter().map(|h| *h as f32).collect())
}

#[test]
fn codes_scales_and_losses_are_the_papers() {
    let golden: Golden = serde_json::from_str(include_str!("golden/gptq_int4.json")).unwrap();
    let columns = golden.columns;
    let (weights, hessian) = inputs(&golden);
    let trace: f64 = hessian.iter().step_by(columns + 1).map(|h| f64::from(*h)).sum();
    assert!((trace / golden.trace - 1.0).abs() < 1e-6, "the inputs are others: {trace} {}", golden.trace);
    let damping = damping_of_mean(&hessian, columns, 0.01);
    let factor = FeedbackFactor::new(hessian.clone(), columns, damping).unwrap();
    for case in &golden.cases {
        let group = match case.group {
            n if n == columns => GroupSize::Channel,
            n => GroupSize::Columns(n),
        };
        let scheme = IntScheme::new(4, group, case.symmetric).unwrap();
        let grid = scheme.grid(columns, Dtype::F16).unwrap();
        let order = if case.act_order { Order::Activation } else { Order::Natural };
        let mut bytes = vec![0; golden.rows * grid.row_bytes(columns).unwrap()];
        quantize_int(grid, &weights, None, &factor, &IntOptions::paper(order), &mut bytes).unwrap();

        let mut codes = vec![0; case.group];
        let mut same = 0;
        for (i, group) in bytes.chunks_exact(grid.group_bytes()).enumerate() {
            let (row, first) = (i * case.group / columns, i * case.group % columns);
            let group = grid.split(group);
            bits::unpack(group.codes, 4, &mut codes);
            let expected = case.codes[row][first..].chars().map(|c| c.to_digit(16).unwrap() as u8);
            same += codes.iter().zip(expected).filter(|(a, b)| **a == *b).count();
            let scale = half::f16::from_le_bytes(group.scale.try_into().unwrap()).to_f32();
            let expected = case.scales[i];
            assert!((scale / expected - 1.0).abs() < 1e-3, "{}: scale {i} {scale} for {expected}", case.name);
            assert_eq!(group.zero, case.zeros[i], "{}: zero {i}", case.name);
        }
        let part = same as f64 / weights.len() as f64;
        let mut rounded = vec![0.0; weights.len()];
        dequantize_rows(grid, &bytes, columns, &mut rounded).unwrap();
        let loss = output_error(&weights, &rounded, columns, InputStatistics::Covariance(&hessian)).unwrap();
        println!("{}: {part} of the codes, loss {loss} for {}", case.name, case.loss);
        assert!(part >= 0.999, "{}: only {part} of the codes are the paper's", case.name);
        assert!((loss / case.loss - 1.0).abs() < 1e-4, "{}: loss {loss} for {}", case.name, case.loss);
    }
}
