//! Laws of removing groups of columns.

use proptest::prelude::*;
use slmc_prune::refit::loss;
use slmc_prune::structured::{Elimination, Groups, InputMoments, StructuredImportance, eliminate, solve};
use slmc_quant::gptq::FeedbackFactor;

fn value(i: usize) -> f32 {
    ((i.wrapping_mul(2_654_435_761) >> 7) % 2001) as f32 / 1000.0 - 1.0
}

/// Weights `[rows, columns]` and a Hessian whose columns have much in common.
fn matrices(rows: usize, columns: usize, seed: usize) -> (Vec<f32>, FeedbackFactor) {
    let tokens = 2 * columns;
    let inputs: Vec<f32> = (0..tokens)
        .flat_map(|t| {
            let shared = value(seed + t * 7919);
            (0..columns).map(move |k| value(seed + 31 + t * columns + k) + shared * (k % 3) as f32)
        })
        .collect();
    let mut hessian = vec![0.0; columns * columns];
    for i in 0..columns {
        for j in 0..columns {
            let products = inputs.chunks_exact(columns).map(|x| f64::from(x[i]) * f64::from(x[j]));
            hessian[i * columns + j] = (2.0 / tokens as f64 * products.sum::<f64>()) as f32;
        }
    }
    let weights = (0..rows * columns).map(|i| value(seed + 101 + i)).collect();
    (weights, FeedbackFactor::new(hessian, columns, 0.1).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn costs_are_the_loss_of_the_solution(seed in 0usize..10_000, width in 1usize..4, families in 1usize..3) {
        let (rows, family) = (9, 4);
        let groups = Groups::new(width * family * families, width, family).unwrap();
        let (weights, factor) = matrices(rows, groups.columns(), seed);
        let count = 2 * families;
        // one group a round
        let gone = eliminate(&weights, groups, &factor, count, count).unwrap();
        prop_assert_eq!(gone.removed.len(), count);
        for n in 0..=count {
            let mut solved = weights.clone();
            let kept = groups.columns_of(&gone.kept(n));
            solve(&mut solved, &kept, &factor).unwrap();
            let loss = loss(&weights, &solved, &factor).unwrap();
            prop_assert!((gone.costs[n] - loss).abs() <= 1e-3 * loss.max(1e-3), "{n}: {} {loss}", gone.costs[n]);
        }
        for family in 0..families {
            let of = |group: &&usize| groups.family_of(**group) == family;
            prop_assert_eq!(gone.removed.iter().filter(of).count(), 2);
        }
    }

    #[test]
    fn the_first_to_go_is_the_cheapest_of_all(seed in 0usize..10_000) {
        let groups = Groups::single(12).unwrap();
        let (weights, factor) = matrices(5, 12, seed);
        let first = eliminate(&weights, groups, &factor, 1, 1).unwrap();
        for group in 0..12 {
            let mut solved = weights.clone();
            let kept: Vec<usize> = (0..12).filter(|k| *k != group).collect();
            solve(&mut solved, &kept, &factor).unwrap();
            let loss = loss(&weights, &solved, &factor).unwrap();
            prop_assert!(first.costs[1] <= loss * 1.001 + 1e-6);
        }
    }

    #[test]
    fn no_other_matrix_of_these_columns_is_better(seed in 0usize..10_000, moved in 0usize..35) {
        let (weights, factor) = matrices(5, 12, seed);
        let kept = [0, 1, 4, 5, 7, 9, 11];
        let mut solved = weights.clone();
        solve(&mut solved, &kept, &factor).unwrap();
        let least = loss(&weights, &solved, &factor).unwrap();
        prop_assert!(solved.iter().enumerate().all(|(at, w)| kept.contains(&(at % 12)) || *w == 0.0));
        for step in [-0.01, 0.01] {
            let mut other = solved.clone();
            other[moved / 7 * 12 + kept[moved % 7]] += step;
            prop_assert!(loss(&weights, &other, &factor).unwrap() >= least);
        }
    }
}

#[test]
fn dead_channels_go_first_and_change_nothing() {
    let (rows, columns) = (6, 20);
    let (mut weights, factor) = matrices(rows, columns, 5);
    let dead = [3, 8, 17];
    for row in weights.chunks_exact_mut(columns) {
        dead.iter().for_each(|k| row[*k] = 0.0);
    }
    let groups = Groups::single(columns).unwrap();
    for rounds in [1, 3] {
        let mut gone = eliminate(&weights, groups, &factor, 3, rounds).unwrap();
        assert_eq!(gone.costs, [0.0; 4]);
        gone.removed.sort_unstable();
        assert_eq!(gone.removed, dead);
        let mut solved = weights.clone();
        solve(&mut solved, &gone.kept(3), &factor).unwrap();
        assert_eq!(solved, weights);
    }
}

#[test]
fn measures_are_those_of_their_papers() {
    let groups = Groups::new(4, 2, 2).unwrap();
    let weights = [1.0, 2.0, 0.0, 1.0, 3.0, 0.0, 1.0, 1.0];
    let inputs = InputMoments { means: vec![1.0, 0.0, 2.0, 1.0], second_moments: vec![2.0, 1.0, 5.0, 1.0] };
    let of =
        |importance: StructuredImportance| importance.of_groups(&weights, groups, &inputs, (0, 0)).unwrap();
    // squared norms of the columns are 10, 4, 1, 2
    assert_eq!(of(StructuredImportance::Magnitude), Some(vec![14.0, 3.0]));
    assert_eq!(of(StructuredImportance::Activation), Some(vec![3.0, 6.0]));
    assert_eq!(of(StructuredImportance::Wanda), Some(vec![24.0, 7.0]));
    assert_eq!(of(StructuredImportance::Variance), Some(vec![14.0, 1.0]));
    assert_eq!(of(StructuredImportance::Hessian), None);
    let gone = Elimination::by_importance(groups, &[24.0, 7.0], 1).unwrap();
    assert_eq!((gone.removed.as_slice(), gone.kept(1)), ([1].as_slice(), vec![0]));
}

#[test]
fn what_cannot_go_is_refused() {
    let (weights, factor) = matrices(3, 12, 1);
    assert!(Groups::new(12, 5, 1).is_err());
    let groups = Groups::new(12, 2, 3).unwrap();
    // two families: an odd number cannot be spread, and one group of each must stay
    for count in [1, 3, 6] {
        assert!(eliminate(&weights, groups, &factor, count, 1).is_err(), "{count}");
    }
    assert!(eliminate(&[f32::NAN; 12], groups, &factor, 2, 1).is_err());
    assert!(Groups::single(0).is_err());
}
