//! Error feedback: the factorization is one, and the output error falls with every step that claims to lower it.

#[allow(dead_code)] // not every test program uses everything
mod random;

use random::Random;
use slmc_gguf::TensorType;
use slmc_quant::gptq::{FeedbackFactor, quantize};
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
    quantize(ty, weights, factor, passes, &mut bytes).unwrap();
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
