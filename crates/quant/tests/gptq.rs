//! Error feedback: the factorization is one, and the output error falls with every step that claims to lower it.

#[allow(dead_code)] // not every test program uses everything
mod random;

use random::Random;
use slmc_gguf::TensorType;
use slmc_quant::gptq::{FeedbackFactor, InputCorrection, Order, aim_at_outputs, quantize};
use slmc_quant::loss::{InputStatistics, output_error};
use slmc_quant::rtn::{dequantize_rows, quantize_rows};

const COLUMNS: usize = 512;
const ROWS: usize = 70; // more than a tile, and no whole number of them

/// 2/n Σ x xᵀ of inputs that share a few directions, as activations do.
fn hessian(random: &mut Random, columns: usize) -> Vec<f32> {
    let (tokens, directions) = (2 * columns, columns / 8);
    let basis: Vec<f32> = (0..directions * columns).map(|_| random.normal() as f32).collect();
    let mut h = vec![0.0f32; columns * columns];
    let mut x = vec![0.0f32; columns];
    for _ in 0..tokens {
        for (k, x) in x.iter_mut().enumerate() {
            *x = random.normal() as f32 * if k % 37 == 0 { 4.0 } else { 0.7 };
        }
        for direction in basis.chunks_exact(columns) {
            let amount = 0.2 * random.normal() as f32;
            x.iter_mut().zip(direction).for_each(|(x, d)| *x += amount * d);
        }
        for (row, a) in h.chunks_exact_mut(columns).zip(&x) {
            row.iter_mut().zip(&x).for_each(|(h, b)| *h += 2.0 / tokens as f32 * a * b);
        }
    }
    h
}

fn weights(random: &mut Random) -> Vec<f32> {
    (0..ROWS * COLUMNS).map(|_| 0.02 * random.normal() as f32).collect()
}

fn error(ty: TensorType, weights: &[f32], bytes: &[u8], hessian: &[f32]) -> f64 {
    let mut rounded = vec![0.0; weights.len()];
    dequantize_rows(ty, bytes, COLUMNS, &mut rounded).unwrap();
    output_error(weights, &rounded, COLUMNS, InputStatistics::Covariance(hessian)).unwrap()
}

fn encoded(ty: TensorType, weights: &[f32], factor: &FeedbackFactor, passes: usize) -> Vec<u8> {
    let mut bytes = vec![0; ty.bytes_for(weights.len()).unwrap()];
    quantize(ty, weights, None, factor, passes, Order::Natural, &mut bytes).unwrap();
    bytes
}

#[test]
fn the_factors_give_the_hessian_back() {
    let n = 200;
    let h = hessian(&mut Random(1), n);
    let factor = FeedbackFactor::new(h.clone(), n, 0.01).unwrap();
    let mut diagonal: Vec<f32> = (0..n).map(|k| h[k * n + k]).collect();
    diagonal.sort_by(f32::total_cmp);
    let median = f64::from(diagonal[n / 2]);
    let entry = |j: usize, k: usize| if j == k { 1.0 } else { f64::from(factor.upper()[j * n + k]) };
    for i in (0..n).step_by(7) {
        for j in 0..n {
            let product: f64 =
                (0..n).map(|k| entry(i, k) * f64::from(factor.diagonal()[k]) * entry(j, k)).sum();
            let expected = f64::from(h[i * n + j]) + if i == j { 0.01 * median } else { 0.0 };
            assert!((product - expected).abs() < 1e-4 * median, "{i}, {j}: {product} for {expected}");
            assert!(j > i || factor.upper()[i * n + j] == 0.0);
        }
    }
}

#[test]
fn feedback_beats_rounding_and_descent_beats_feedback() {
    let mut random = Random(2);
    let (h, w) = (hessian(&mut random, COLUMNS), weights(&mut random));
    let diagonal: Vec<f32> = (0..COLUMNS).map(|k| h[k * COLUMNS + k]).collect();
    let factor = FeedbackFactor::new(h.clone(), COLUMNS, 0.01).unwrap();
    for ty in TensorType::ALL {
        if ty.block_len() == 1 {
            continue;
        }
        let mut plain = vec![0; ty.bytes_for(w.len()).unwrap()];
        quantize_rows(ty, &w, COLUMNS, Some(&diagonal), &mut plain).unwrap();
        let plain = error(ty, &w, &plain, &h);
        let fed = error(ty, &w, &encoded(ty, &w, &factor, 0), &h);
        let descended = error(ty, &w, &encoded(ty, &w, &factor, 2), &h);
        println!("{ty}: {plain:.3e}, feedback {:.3}, descent {:.3}", fed / plain, descended / plain);
        assert!(fed < 0.9 * plain, "{ty}: {fed} after feedback, {plain} before");
        assert!(descended < fed, "{ty}: {descended} after descent, {fed} before");
    }
}

#[test]
fn rows_do_not_depend_on_each_other_or_on_threads() {
    let mut random = Random(3);
    let (h, w) = (hessian(&mut random, COLUMNS), weights(&mut random));
    let factor = FeedbackFactor::new(h, COLUMNS, 0.01).unwrap();
    for ty in [TensorType::Q4_K, TensorType::Q4_0, TensorType::IQ4_XS] {
        let all = encoded(ty, &w, &factor, 2);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        assert_eq!(pool.install(|| encoded(ty, &w, &factor, 2)), all);
        let row_bytes = all.len() / ROWS;
        for row in [0, 63, 64, 69] {
            let alone = encoded(ty, &w[row * COLUMNS..][..COLUMNS], &factor, 2);
            assert_eq!(alone, all[row * row_bytes..][..row_bytes], "{ty}, row {row}");
        }
    }
}

#[test]
fn blocks_by_activation_are_blocks_that_stand_in_that_order() {
    let mut random = Random(5);
    let w = weights(&mut random);
    for ty in [TensorType::Q4_0, TensorType::Q4_K] {
        let (len, bytes) = (ty.block_len(), ty.block_bytes());
        let blocks = COLUMNS / len;
        // inputs that get weaker from block to block
        let mut falling = hessian(&mut random, COLUMNS);
        for (i, row) in falling.chunks_exact_mut(COLUMNS).enumerate() {
            for (j, h) in row.iter_mut().enumerate() {
                *h *= 0.5f32.powi((i / len + j / len) as i32);
            }
        }
        let column = |k: usize| (blocks - 1 - k / len) * len + k % len;
        let turned_around: Vec<f32> = (0..COLUMNS * COLUMNS)
            .map(|at| falling[column(at / COLUMNS) * COLUMNS + column(at % COLUMNS)])
            .collect();
        let turned_weights: Vec<f32> =
            (0..w.len()).map(|at| w[at / COLUMNS * COLUMNS + column(at % COLUMNS)]).collect();
        let [falling, rising] =
            [falling, turned_around].map(|h| FeedbackFactor::new(h, COLUMNS, 0.01).unwrap());
        let expected = encoded(ty, &w, &falling, 1);
        let mut found = vec![0; expected.len()];
        quantize(ty, &turned_weights, None, &rising, 1, Order::Activation, &mut found).unwrap();
        assert_ne!(found, encoded(ty, &turned_weights, &rising, 1), "{ty}: the order changes something");
        for (found, expected) in found.chunks_exact(blocks * bytes).zip(expected.chunks_exact(blocks * bytes))
        {
            assert!(found.chunks_exact(bytes).rev().eq(expected.chunks_exact(bytes)), "{ty}");
        }
    }
}

#[test]
fn a_singular_hessian_is_damped_and_dead_columns_are_rounded() {
    let mut random = Random(4);
    let w = weights(&mut random);
    // two tokens alone, and a column that no token reaches
    let mut h = vec![0.0f32; COLUMNS * COLUMNS];
    for _ in 0..2 {
        let x: Vec<f32> = (0..COLUMNS).map(|k| if k == 5 { 0.0 } else { random.normal() as f32 }).collect();
        for (row, a) in h.chunks_exact_mut(COLUMNS).zip(&x) {
            row.iter_mut().zip(&x).for_each(|(h, b)| *h += a * b);
        }
    }
    let factor = FeedbackFactor::new(h.clone(), COLUMNS, 0.0).unwrap();
    assert!(factor.damping().relative > 0.0 && factor.damping().raised > 0);
    assert_eq!(factor.damping().dead_columns, 1);
    let bytes = encoded(TensorType::Q8_0, &w, &factor, 1);
    let mut rounded = vec![0.0; w.len()];
    dequantize_rows(TensorType::Q8_0, &bytes, COLUMNS, &mut rounded).unwrap();
    for row in 0..ROWS {
        let (w, r) = (w[row * COLUMNS + 5], rounded[row * COLUMNS + 5]);
        assert!((w - r).abs() < 0.001, "the weight of the dead column {w} became {r}");
    }
    assert!(FeedbackFactor::new(vec![f32::NAN; 4], 2, 0.01).is_err());
    assert!(FeedbackFactor::new(vec![1.0, 3.0, 3.0, -9.0], 2, 0.01).is_ok(), "a negative diagonal is dead");
    assert!(FeedbackFactor::new(vec![1.0; 3], 2, 0.01).is_err());
}

/// Tokens as the float model sees them and as the rounded one does, `[tokens, COLUMNS]` each.
fn streams(random: &mut Random) -> (Vec<f32>, Vec<f32>) {
    let tokens = 2 * COLUMNS;
    let basis: Vec<f32> = (0..64 * COLUMNS).map(|_| random.normal() as f32).collect();
    let (mut float, mut drifted) = (Vec::new(), Vec::new());
    for _ in 0..tokens {
        let mut x: Vec<f32> = (0..COLUMNS).map(|_| random.normal() as f32).collect();
        for direction in basis.chunks_exact(COLUMNS) {
            let amount = 0.2 * random.normal() as f32;
            x.iter_mut().zip(direction).for_each(|(x, d)| *x += amount * d);
        }
        // what rounding does to earlier layers: values shrink a little, and noise comes in
        drifted.extend(x.iter().map(|x| 0.95 * x + 0.1 * random.normal() as f32));
        float.extend(x);
    }
    (float, drifted)
}

/// 2/n Σ a bᵀ of `[tokens, m]` and `[tokens, n]`.
fn moment(a: &[f32], m: usize, b: &[f32], n: usize) -> Vec<f32> {
    let tokens = a.len() / m;
    let mut sums = vec![0.0f32; m * n];
    for (a, b) in a.chunks_exact(m).zip(b.chunks_exact(n)) {
        for (row, a) in sums.chunks_exact_mut(n).zip(a) {
            row.iter_mut().zip(b).for_each(|(sum, b)| *sum += 2.0 / tokens as f32 * a * b);
        }
    }
    sums
}

fn outputs(weights: &[f32], x: &[f32]) -> Vec<f32> {
    let rows = weights.len() / COLUMNS;
    let dot = |w: &[f32], x: &[f32]| w.iter().zip(x).map(|(w, x)| w * x).sum::<f32>();
    let mut y = Vec::with_capacity(x.len() / COLUMNS * rows);
    for x in x.chunks_exact(COLUMNS) {
        y.extend(weights.chunks_exact(COLUMNS).map(|w| dot(w, x)));
    }
    y
}

#[test]
fn targets_bring_the_outputs_of_drifted_inputs_nearer_and_both_ways_to_them_agree() {
    let mut random = Random(5);
    let w: Vec<f32> = weights(&mut random)[..16 * COLUMNS].to_vec();
    let (x, drifted) = streams(&mut random);
    let factor = FeedbackFactor::new(moment(&drifted, COLUMNS, &drifted, COLUMNS), COLUMNS, 0.01).unwrap();
    let difference = |a: &[f32], b: &[f32]| -> Vec<f32> { a.iter().zip(b).map(|(a, b)| a - b).collect() };

    let mut by_inputs = w.clone();
    let drift = moment(&difference(&x, &drifted), COLUMNS, &drifted, COLUMNS);
    InputCorrection::new(drift, &factor).unwrap().apply(&mut by_inputs).unwrap();
    let mut by_outputs = w.clone();
    let lost = difference(&outputs(&w, &x), &outputs(&w, &drifted));
    aim_at_outputs(&mut by_outputs, moment(&lost, 16, &drifted, COLUMNS), &factor).unwrap();

    let squares = |values: &[f32]| values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
    let apart = squares(&difference(&by_inputs, &by_outputs)).sqrt() / squares(&w).sqrt();
    assert!(apart < 1e-3, "the two ways are {apart} apart");
    let wanted = outputs(&w, &x);
    let lost = |weights: &[f32]| squares(&difference(&wanted, &outputs(weights, &drifted)));
    assert!(lost(&by_inputs) < 0.8 * lost(&w), "{} of {}", lost(&by_inputs), lost(&w));

    // and what is won is not lost to rounding
    let rounded = |targets: &[f32]| {
        let mut values = vec![0.0; targets.len()];
        let bytes = encoded(TensorType::Q4_K, targets, &factor, 2);
        dequantize_rows(TensorType::Q4_K, &bytes, COLUMNS, &mut values).unwrap();
        lost(&values)
    };
    assert!(rounded(&by_inputs) < rounded(&w), "{} {}", rounded(&by_inputs), rounded(&w));
}

#[test]
fn a_factor_under_another_damping_is_that_of_the_hessian_under_it() {
    let mut random = Random(7);
    let h = hessian(&mut random, COLUMNS);
    let fresh = FeedbackFactor::new(h.clone(), COLUMNS, 0.2).unwrap();
    let changed = FeedbackFactor::new(h, COLUMNS, 1.5).unwrap().with_damping(0.2).unwrap();
    assert_eq!(changed.hessian(), fresh.hessian());
    assert_eq!(changed.upper(), fresh.upper());
    assert_eq!(changed.diagonal(), fresh.diagonal());
    assert_eq!(changed.damping(), fresh.damping());
}

#[test]
fn without_drift_the_targets_are_the_weights() {
    let mut random = Random(6);
    let (h, w) = (hessian(&mut random, COLUMNS), weights(&mut random));
    let factor = FeedbackFactor::new(h, COLUMNS, 0.01).unwrap();
    let mut targets = w.clone();
    InputCorrection::new(vec![0.0; COLUMNS * COLUMNS], &factor).unwrap().apply(&mut targets).unwrap();
    aim_at_outputs(&mut targets, vec![0.0; w.len()], &factor).unwrap();
    assert_eq!(targets, w);
    assert!(InputCorrection::new(vec![0.0; COLUMNS], &factor).is_err());
    assert!(InputCorrection::new(vec![f32::NAN; COLUMNS * COLUMNS], &factor).is_err());
    assert!(aim_at_outputs(&mut targets, vec![0.0; COLUMNS], &factor).is_err());
}
