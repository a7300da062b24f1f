//! Steps chosen by the products of inputs: against the best of very many (`golden/clipping.py`), and never for the worse.

#[allow(dead_code)] // not every test program uses everything
mod random;

use random::Random;
use serde_json::Value;
use slmc_checkpoint::Dtype;
use slmc_gguf::TensorType;
use slmc_quant::int::GroupSize;
use slmc_quant::rtn::{dequantize_rows, quantize_rows, refine_rows};
use slmc_quant::{GramBlocks, Grid, IntGrid, IntScheme, QuantError};

const COLUMNS: usize = 512;
const ROWS: usize = 40;

fn int(bits: u32, group: usize, symmetric: bool, columns: usize, scales: Dtype) -> IntGrid {
    IntScheme::new(bits, GroupSize::Columns(group), symmetric).unwrap().grid(columns, scales).unwrap()
}

/// E[u uᵀ] of inputs that share a few directions, in runs of `len`.
fn products(random: &mut Random, len: usize) -> GramBlocks {
    let mut values = Vec::new();
    for _ in 0..COLUMNS / len {
        let (basis, sizes) = (random.normals(3 * len, 1.0), random.log_normals(len, 0.5));
        for i in 0..len {
            for j in 0..len {
                let shared: f32 = (0..3).map(|d| basis[d * len + i] * basis[d * len + j]).sum();
                values.push(shared + if i == j { sizes[i] } else { 0.0 });
            }
        }
    }
    GramBlocks::new(len, values).unwrap()
}

/// Σ eᵀ G e + λ (xᵀ G e)² / xᵀ G x over runs of `len` neighbouring columns, of every row.
fn costs(gram: &GramBlocks, weights: &[f32], rounded: &[f32], (len, along): (usize, f64)) -> Vec<f64> {
    let (run_len, columns) = (gram.run_len(), gram.columns());
    let of_run = |first: usize, x: &[f32], rounded: &[f32]| -> f64 {
        let g = |i: usize, j: usize| {
            let (run, at) = (first / run_len, first % run_len);
            f64::from(gram.values()[(run * run_len + at + i) * run_len + at + j])
        };
        let x: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
        let e: Vec<f64> = x.iter().zip(rounded).map(|(x, r)| x - f64::from(*r)).collect();
        let product = |a: &[f64], b: &[f64]| -> f64 {
            (0..len).flat_map(|i| (0..len).map(move |j| (i, j))).map(|(i, j)| a[i] * g(i, j) * b[j]).sum()
        };
        product(&e, &e) + along * product(&x, &e).powi(2) / product(&x, &x)
    };
    let rows = weights.chunks_exact(columns).zip(rounded.chunks_exact(columns));
    rows.map(|(w, r)| {
        let runs = w.chunks_exact(len).zip(r.chunks_exact(len)).enumerate();
        runs.map(|(run, (w, r))| of_run(run * len, w, r)).sum()
    })
    .collect()
}

/// What `weights` read as when they were rounded by the squares of inputs, and then by their products.
fn both<G: Grid>(grid: G, gram: &GramBlocks, weights: &[f32]) -> [Vec<f32>; 2] {
    let (columns, len) = (gram.columns(), gram.run_len());
    let diagonal: Vec<f32> =
        (0..columns).map(|c| gram.values()[c / len * len * len + c % len * (len + 1)]).collect();
    let mut bytes = vec![0; weights.len() / columns * grid.row_bytes(columns).unwrap()];
    let read = |bytes: &[u8]| {
        let mut values = vec![0.0; weights.len()];
        dequantize_rows(grid, bytes, columns, &mut values).unwrap();
        values
    };
    quantize_rows(grid, weights, columns, Some(&diagonal), &mut bytes).unwrap();
    let before = read(&bytes);
    refine_rows(grid, weights, columns, gram, &mut bytes).unwrap();
    [before, read(&bytes)]
}

#[test]
fn groups_reach_the_best_of_thousands_of_scales() {
    let golden: Value = serde_json::from_str(include_str!("golden/clipping.json")).unwrap();
    let numbers = |name: &str| -> Vec<f64> {
        golden[name].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
    };
    let floats = |name: &str| -> Vec<f32> { numbers(name).into_iter().map(|x| x as f32).collect() };
    let len = golden["len"].as_u64().unwrap() as usize;
    let gram = GramBlocks::new(len, floats("gram")).unwrap();
    let weights = floats("weights");
    for (name, symmetric) in [("symmetric", true), ("asymmetric", false)] {
        let [before, after] = both(int(4, len, symmetric, len, Dtype::F32), &gram, &weights);
        let (before, after) =
            (costs(&gram, &weights, &before, (len, 0.0)), costs(&gram, &weights, &after, (len, 0.0)));
        let least = numbers(name);
        assert_eq!(least.len(), after.len());
        let sum = |errors: &[f64]| errors.iter().sum::<f64>();
        println!("{name}: {:e} before, {:e} after, {:e} at least", sum(&before), sum(&after), sum(&least));
        for (group, (after, least)) in after.iter().zip(&least).enumerate() {
            assert!(*after > 0.999 * least, "{name}, group {group}: {after} below {least}");
        }
        // ten steps around the fitted one find most of what thousands do
        let excess = |errors: &[f64]| sum(errors) / sum(&least) - 1.0;
        assert!(excess(&after) < 0.5 * excess(&before), "{} {}", excess(&before), excess(&after));
    }
}

#[test]
fn no_row_gets_worse_and_most_get_better() {
    let mut random = Random(5);
    let weights = random.normals(ROWS * COLUMNS, 0.02);
    let check = |name: String, gram: &GramBlocks, [before, after]: [Vec<f32>; 2], how: (usize, f64)| {
        let [before, after] = [before, after].map(|rounded| costs(gram, &weights, &rounded, how));
        for (row, (before, after)) in before.iter().zip(&after).enumerate() {
            assert!(*after <= before * 1.001, "{name}, row {row}: {after} after {before}");
        }
        let [before, after] = [before, after].map(|costs| costs.iter().sum::<f64>());
        assert!(after < 0.99 * before, "{name}: {after} after {before}");
    };
    for bits in [2, 3, 4] {
        for group in [32, 64, 128] {
            for symmetric in [true, false] {
                let grid = int(bits, group, symmetric, COLUMNS, Dtype::F16);
                assert_eq!(grid.run_len(), Some(group));
                let gram = products(&mut random, group);
                check(grid.name(), &gram, both(grid, &gram, &weights), (group, 0.0));
            }
        }
    }
    let gram = products(&mut random, 32);
    for ty in TensorType::ALL {
        let rounded = both(ty, &gram, &weights);
        match ty.run_len() {
            Some(len) => {
                assert_eq!(len, 32);
                let sub_block = if matches!(ty, TensorType::Q2_K | TensorType::Q3_K) { 16 } else { 32 };
                check(ty.to_string(), &gram, rounded, (sub_block, 10.0));
            }
            None => assert_eq!(rounded[0], rounded[1], "{ty}"),
        }
    }
    assert!(TensorType::Q4_K.run_len().is_some() && TensorType::Q6_K.run_len().is_none());
    assert!(int(8, 128, true, COLUMNS, Dtype::F16).run_len().is_none());
}

#[test]
fn uncorrelated_inputs_and_dead_ones_do_no_harm() {
    let mut random = Random(9);
    let weights = random.normals(4 * COLUMNS, 0.02);
    let mut values = vec![0.0; COLUMNS * 32];
    // the first 32 columns never see anything
    (32..COLUMNS).for_each(|c| values[c / 32 * 1024 + c % 32 * 33] = random.uniform() as f32);
    let gram = GramBlocks::new(32, values).unwrap();
    for ty in [TensorType::Q4_0, TensorType::Q4_K, TensorType::Q2_K, TensorType::IQ4_XS] {
        let [before, after] = both(ty, &gram, &weights);
        for (before, after) in before.chunks_exact(COLUMNS).zip(after.chunks_exact(COLUMNS)) {
            assert_eq!(before[..32], after[..32], "{ty}");
        }
        assert!(after.iter().all(|x| x.is_finite()));
    }
}

#[test]
fn scales_divide_products_as_they_divide_inputs() {
    let gram = GramBlocks::new(2, vec![4.0, 2.0, 2.0, 8.0, 1.0, 0.0, 0.0, 1.0]).unwrap();
    let divided = gram.divided(&[2.0, 4.0, 1.0, 0.5]);
    assert_eq!(divided.values(), [1.0, 0.25, 0.25, 0.5, 1.0, 0.0, 0.0, 4.0]);
    assert!(GramBlocks::new(2, vec![1.0; 6]).is_none() && GramBlocks::new(1, vec![f32::NAN]).is_none());
}

#[test]
fn products_of_other_columns_are_refused() {
    let gram = products(&mut Random(1), 32);
    let weights = [0.5; 256];
    let mut bytes = vec![0; TensorType::Q4_K.row_bytes(256).unwrap()];
    let refused = refine_rows(TensorType::Q4_K, &weights, 256, &gram, &mut bytes);
    assert!(matches!(refused, Err(QuantError::Block(_))), "{refused:?}");
    let grid = int(4, 64, true, 256, Dtype::F16);
    let mut bytes = vec![0; grid.row_bytes(256).unwrap()];
    assert!(matches!(refine_rows(grid, &weights, 256, &gram, &mut bytes), Err(QuantError::Length { .. })));
}
