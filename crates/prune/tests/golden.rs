//! Masks and losses against an independent implementation: golden/make.py.

use serde_json::Value;
use slmc_prune::refit::{Refit, loss, refit};
use slmc_prune::select::least_important;
use slmc_prune::sparsegpt::{BLOCK, sparsegpt};
use slmc_prune::{Mask, Scope, Sparsity, importance};
use slmc_quant::gptq::{FeedbackFactor, damping_of_mean};

const ROWS: usize = 16;
const COLUMNS: usize = 192;
const TOKENS: usize = 512;
const HALF: Sparsity = Sparsity::Share(0.5);
const TWO_OF_FOUR: Sparsity = Sparsity::Pattern { kept: 2, of: 4 };

/// As in golden/make.py.
fn noise(index: usize, seed: usize) -> f64 {
    let i = (index + seed * 1_000_003) as u64;
    let mixed = (i * 2_654_435_761) % (1 << 32);
    let mixed = (mixed ^ (mixed >> 15)) * 2_246_822_519 % (1 << 32);
    ((mixed ^ (mixed >> 13)) % 65_536) as f64 / 32_768.0 - 1.0
}

fn weights() -> Vec<f32> {
    (0..ROWS * COLUMNS).map(|i| noise(i, 1) as f32).collect()
}

fn hessian() -> Vec<f32> {
    let x: Vec<f64> = (0..TOKENS * COLUMNS)
        .map(|i| {
            let (token, column) = (i / COLUMNS, i % COLUMNS);
            let shared = noise(token * (COLUMNS / 8) + column / 8, 3);
            let scale = 0.25 + (column * 7 % 13) as f64 / 4.0;
            f64::from(((noise(i, 2) + 1.5 * shared) * scale) as f32)
        })
        .collect();
    let mut hessian = vec![0.0; COLUMNS * COLUMNS];
    for row in x.chunks_exact(COLUMNS) {
        for (a, sums) in row.iter().zip(hessian.chunks_exact_mut(COLUMNS)) {
            sums.iter_mut().zip(row).for_each(|(sum, b)| *sum += a * b);
        }
    }
    hessian.iter().map(|sum| (sum * 2.0 / TOKENS as f64) as f32).collect()
}

/// With the paper's damping, 0.01 of the diagonal's mean.
fn factor() -> FeedbackFactor {
    let hessian = hessian();
    let damping = damping_of_mean(&hessian, COLUMNS, 0.01);
    FeedbackFactor::new(hessian, COLUMNS, damping).unwrap()
}

/// Under the Hessian without damping, as the script tells it.
fn undamped_loss(weights: &[f32], pruned: &[f32]) -> f64 {
    let hessian = hessian();
    let rows = weights.chunks_exact(COLUMNS).zip(pruned.chunks_exact(COLUMNS));
    let row_loss = |(weights, pruned): (&[f32], &[f32])| {
        let lost: Vec<f64> = weights.iter().zip(pruned).map(|(w, p)| f64::from(*w) - f64::from(*p)).collect();
        let through = hessian
            .chunks_exact(COLUMNS)
            .map(|row| row.iter().zip(&lost).map(|(h, l)| f64::from(*h) * l).sum::<f64>());
        through.zip(&lost).map(|(t, l)| t * l).sum::<f64>()
    };
    rows.map(row_loss).sum()
}

fn golden() -> Value {
    serde_json::from_str(include_str!("golden/pruned.json")).unwrap()
}

fn mask_of(golden: &Value) -> Vec<bool> {
    let rows = golden.as_array().unwrap().iter().map(|row| row.as_str().unwrap());
    rows.flat_map(|row| row.bytes().map(|bit| bit == b'1')).collect()
}

fn differing(mask: &Mask, golden: &Value) -> usize {
    let golden = mask_of(golden);
    assert_eq!(golden.len(), mask.kept().len());
    golden.iter().zip(mask.kept()).filter(|(a, b)| a != b).count()
}

#[test]
fn masks_of_magnitude_and_wanda_are_those_of_pytorch() {
    let (golden, weights, hessian) = (golden(), weights(), hessian());
    let second_moments: Vec<f32> = hessian.iter().step_by(COLUMNS + 1).copied().collect();
    let wanda = importance::wanda(&weights, &second_moments).unwrap();
    let cases = [
        ("magnitude", importance::magnitude(&weights), HALF),
        ("wanda", wanda.clone(), HALF),
        ("wanda_2_4", wanda, TWO_OF_FOUR),
    ];
    for (name, importance, sparsity) in cases {
        let mask = least_important(&importance, COLUMNS, sparsity, Scope::Row).unwrap();
        assert_eq!(differing(&mask, &golden[name]), 0, "{name}");
    }
}

#[test]
fn sparsegpt_loses_what_pytorch_loses() {
    let (golden, weights, factor) = (golden(), weights(), factor());
    for (name, sparsity) in [("sparsegpt", HALF), ("sparsegpt_2_4", TWO_OF_FOUR)] {
        let pruned = sparsegpt(&weights, &factor, sparsity).unwrap();
        assert_eq!(pruned.mask.pruned(), ROWS * COLUMNS / 2);
        assert_eq!(Mask::of_zeros(&pruned.weights, COLUMNS), pruned.mask);
        // behind the first block, two costs that are nearly equal may fall to different sides and then change everything
        let (golden_mask, mut others) = (mask_of(&golden[name]["mask"]), 0);
        for (row, golden) in golden_mask.chunks_exact(COLUMNS).enumerate() {
            let first_block = pruned.mask.row(row)[..BLOCK].iter().zip(golden);
            others += first_block.filter(|(a, b)| a != b).count();
        }
        println!("{name}: {others} of {} in the first block", ROWS * BLOCK);
        assert!(sparsity != HALF || others <= 2, "{name}: {others}");
        let (found, expected) =
            (undamped_loss(&weights, &pruned.weights), golden[name]["loss"].as_f64().unwrap());
        assert!((found / expected - 1.0).abs() < 0.01, "{name}: {found} {expected}");
    }
}

#[test]
fn solved_again_the_weights_are_those_of_least_squares() {
    let (golden, weights, factor) = (golden(), weights(), factor());
    let mask = Mask::new(mask_of(&golden["sparsegpt"]["mask"]), COLUMNS);
    let mut start = weights.clone();
    mask.apply(&mut start).unwrap();
    let start = slmc_prune::sparsegpt::Pruned { weights: start, mask };
    let how = Refit { iterations: 200, exchanges: 0 };
    let solved = refit(&weights, start, &factor, HALF, how).unwrap();
    let (found, expected) =
        (loss(&weights, &solved.weights, &factor).unwrap(), golden["refit"]["damped_loss"].as_f64().unwrap());
    assert!((found / expected - 1.0).abs() < 1e-3, "{found} {expected}");
}

#[test]
fn every_step_of_refinement_loses_less() {
    let (weights, factor) = (weights(), factor());
    let of = |pruned: &slmc_prune::sparsegpt::Pruned| loss(&weights, &pruned.weights, &factor).unwrap();
    for sparsity in [HALF, TWO_OF_FOUR] {
        let plain = sparsegpt(&weights, &factor, sparsity).unwrap();
        let solved = refit(&weights, plain.clone(), &factor, sparsity, Refit::BALANCED).unwrap();
        assert_eq!(solved.mask, plain.mask);
        let best = refit(&weights, plain.clone(), &factor, sparsity, Refit::BEST).unwrap();
        assert_eq!(best.mask.pruned(), plain.mask.pruned());
        assert_eq!(Mask::of_zeros(&best.weights, COLUMNS), best.mask);
        println!("{sparsity}: {} {} {}", of(&plain), of(&solved), of(&best));
        assert!(of(&solved) < of(&plain) && of(&best) < of(&solved));
        if sparsity == TWO_OF_FOUR {
            assert!(best.mask.kept().chunks(4).all(|group| group.iter().filter(|kept| **kept).count() == 2));
        }
    }
}

#[test]
fn laws() {
    let (weights, factor) = (weights(), factor());
    // nothing asked, nothing changed
    let none = sparsegpt(&weights, &factor, Sparsity::Share(0.0)).unwrap();
    assert_eq!(none.weights, weights);
    // with equal norms, Wanda is magnitude
    let mask = |importance: &[f32]| least_important(importance, COLUMNS, HALF, Scope::Row).unwrap();
    let equal = importance::wanda(&weights, &[4.0; COLUMNS]).unwrap();
    assert_eq!(mask(&equal), mask(&importance::magnitude(&weights)));
    // without correlation, SparseGPT changes no weight that it keeps
    let mut diagonal = vec![0.0; COLUMNS * COLUMNS];
    (0..COLUMNS).for_each(|k| diagonal[k * COLUMNS + k] = 1.0 + k as f32);
    let factor = FeedbackFactor::new(diagonal, COLUMNS, 0.0).unwrap();
    let plain = sparsegpt(&weights, &factor, HALF).unwrap();
    let kept = plain.weights.iter().zip(&weights).filter(|(pruned, _)| **pruned != 0.0);
    kept.for_each(|(pruned, weight)| assert!((pruned - weight).abs() < 1e-6));
}
