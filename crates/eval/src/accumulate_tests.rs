use proptest::prelude::*;

use super::*;

/// The definitions, written out over whole rows of logits.
fn plain(targets: &[u32], base: &[f32], model: &[f32]) -> Scores {
    let width = model.len() / targets.len();
    let log_softmax = |row: &[f32]| -> Vec<f64> {
        let max = row.iter().copied().fold(f32::MIN, f32::max);
        let sum: f64 = row.iter().map(|&x| (f64::from(x) - f64::from(max)).exp()).sum();
        row.iter().map(|&x| f64::from(x) - f64::from(max) - sum.ln()).collect()
    };
    let ranked = |row: &[f32]| {
        let mut order: Vec<usize> = (0..row.len()).collect();
        order.sort_by(|&i, &j| row[j].total_cmp(&row[i]).then(i.cmp(&j)));
        order
    };
    let mut nll = vec![];
    let mut drift = vec![];
    for ((&target, base), model) in targets.iter().zip(base.chunks(width)).zip(model.chunks(width)) {
        let (p, q) = (log_softmax(base), log_softmax(model));
        let (ranked_p, ranked_q) = (ranked(base), ranked(model));
        let target = target as usize;
        nll.push(-q[target]);
        drift.push(Drift {
            base_nll: -p[target],
            kl: p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum(),
            delta_p: q[target].exp() - p[target].exp(),
            same_top: ranked_p[0] == ranked_q[0],
            in_top5: ranked_q.iter().take(5).any(|&entry| entry == ranked_p[0]),
        });
    }
    Scores { nll, drift: Some(drift) }
}

/// Feeds `[tokens, vocabulary]` logits in slices of `widths`, the last of which repeats until the end.
fn accumulate(targets: &[u32], base: Option<&[f32]>, model: &[f32], widths: &[usize]) -> Scores {
    let vocabulary = model.len() / targets.len();
    let mut accumulator = match base {
        Some(_) => Accumulator::pair(targets.to_vec()),
        None => Accumulator::single(targets.to_vec()),
    };
    let mut widths = widths.iter().copied();
    let mut last = 1;
    while accumulator.entries() < vocabulary {
        last = widths.next().unwrap_or(last);
        let from = accumulator.entries();
        let to = (from + last).min(vocabulary);
        let slice = |rows: &[f32]| {
            rows.chunks(vocabulary).flat_map(|row| &row[from..to]).copied().collect::<Vec<f32>>()
        };
        accumulator.add(to - from, base.map(slice).as_deref(), &slice(model)).unwrap();
    }
    accumulator.finish()
}

fn assert_close(found: &Scores, expected: &Scores) {
    let close = |a: f64, b: f64| (a - b).abs() <= 2e-12 * (1.0 + b.abs());
    assert_eq!(found.nll.len(), expected.nll.len());
    for (a, b) in found.nll.iter().zip(&expected.nll) {
        assert!(close(*a, *b), "nll {a} and {b}");
    }
    for (a, b) in found.drift.iter().flatten().zip(expected.drift.iter().flatten()) {
        assert!(close(a.base_nll, b.base_nll), "base nll {} and {}", a.base_nll, b.base_nll);
        assert!((a.kl - b.kl).abs() <= 3e-12 * (1.0 + b.kl), "KL {:e} and {:e}", a.kl, b.kl);
        assert!(close(a.delta_p, b.delta_p), "Δp {} and {}", a.delta_p, b.delta_p);
        assert_eq!((a.same_top, a.in_top5), (b.same_top, b.in_top5));
    }
}

/// Tokens, their targets, and logits of a base model and of one that differs from it by up to `noise`.
fn case() -> impl Strategy<Value = (Vec<u32>, Vec<f32>, Vec<f32>, Vec<usize>)> {
    (1_usize..5, 1_usize..90, prop_oneof![Just(0.0_f32), Just(1e-3), Just(1.0), Just(40.0)]).prop_flat_map(
        |(tokens, vocabulary, noise)| {
            let logits = proptest::collection::vec(-30.0_f32..30.0, tokens * vocabulary);
            let noises = proptest::collection::vec(-1.0_f32..1.0, tokens * vocabulary);
            let targets = proptest::collection::vec(0..vocabulary as u32, tokens);
            let widths = proptest::collection::vec(1_usize..50, 1..6);
            (targets, logits, noises, widths).prop_map(move |(targets, base, noises, widths)| {
                let model = base.iter().zip(&noises).map(|(x, n)| x + noise * n).collect();
                (targets, base, model, widths)
            })
        },
    )
}

proptest! {
    #[test]
    fn slices_give_what_whole_rows_give((targets, base, model, widths) in case()) {
        let expected = plain(&targets, &base, &model);
        assert_close(&accumulate(&targets, Some(&base), &model, &widths), &expected);
        let alone = accumulate(&targets, None, &model, &widths);
        prop_assert_eq!(&alone.drift, &None);
        assert_close(&alone, &Scores { drift: None, ..expected });
    }

    #[test]
    fn divergence_from_itself_is_exactly_zero((targets, base, _, widths) in case()) {
        for row in accumulate(&targets, Some(&base), &base, &widths).drift.unwrap() {
            prop_assert_eq!(row.kl, 0.0);
            prop_assert_eq!(row.delta_p, 0.0);
            prop_assert!(row.same_top && row.in_top5);
        }
    }

    #[test]
    fn a_constant_added_to_the_logits_changes_nothing(
        (targets, base, model, widths) in case(), shift in -8_i8..8
    ) {
        // Halves of small integers are added without rounding to logits on a grid of 2^-10.
        let grid = |rows: &[f32]| rows.iter().map(|x| (x * 1024.0).round() / 1024.0).collect::<Vec<f32>>();
        let (base, model) = (grid(&base), grid(&model));
        let shifted: Vec<f32> = model.iter().map(|x| x + f32::from(shift) * 0.5).collect();
        let found = accumulate(&targets, Some(&base), &shifted, &widths);
        assert_close(&found, &accumulate(&targets, Some(&base), &model, &widths));
    }
}

#[test]
fn small_divergences_keep_their_digits() {
    // q = p·(1 ± ε) on two entries of equal probability, up to normalization: KL is about ε²/2.
    let epsilon = 1.0_f32 / 1024.0;
    let expected = -0.5 * (1.0 - f64::from(epsilon).tanh().powi(2)).ln();
    let scores = accumulate(&[0], Some(&[10.0, 10.0]), &[10.0 + epsilon, 10.0 - epsilon], &[2]);
    let kl = scores.drift.unwrap()[0].kl;
    assert!((kl / expected - 1.0).abs() < 1e-6, "{kl:e} and {expected:e}");
}

#[test]
fn extreme_logits_neither_overflow_nor_vanish() {
    let base = [3e38_f32, -3e38, 0.0, 1.0];
    let model = [-3e38_f32, 3e38, 0.0, 1.0];
    for widths in [[1], [2], [4]] {
        let scores = accumulate(&[1], Some(&base), &model, &widths);
        let row = scores.drift.unwrap()[0];
        assert_eq!(scores.nll, [0.0]);
        assert!((row.kl / 6e38 - 1.0).abs() < 1e-6 && !row.same_top, "{row:?}");
        assert_eq!(row.delta_p, 1.0);
    }
}

#[test]
fn of_equal_logits_the_smallest_id_is_the_top() {
    let base = [0.0_f32, 2.0, 1.0, 2.0];
    for widths in [[1], [2], [4]] {
        let same = accumulate(&[0], Some(&base), &[0.0, 5.0, 5.0, 5.0], &widths).drift.unwrap()[0];
        assert!(same.same_top);
        let other = accumulate(&[0], Some(&base), &[0.0, 4.9, 5.0, 5.0], &widths).drift.unwrap()[0];
        assert!(!other.same_top);
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let (tokens, vocabulary) = (37, 501);
    let wave = |phase: f32| -> Vec<f32> {
        (0..tokens * vocabulary).map(|i| 12.0 * (i as f32 * 0.618 + phase).sin()).collect()
    };
    let (base, model) = (wave(0.0), wave(0.1));
    let targets: Vec<u32> = (0..tokens as u32).map(|i| i * 13 % vocabulary as u32).collect();
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| accumulate(&targets, Some(&base), &model, &[100]))
    };
    assert_eq!(on(1), on(3));
}

#[test]
fn logits_that_are_not_finite_are_located() {
    let good = vec![0.5_f32; 60];
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut logits = good.clone();
        logits[2 * 20 + 7] = bad;
        let mut accumulator = Accumulator::pair(vec![0, 1, 2]);
        accumulator.add(20, Some(&good), &good).unwrap();
        let error = accumulator.add(20, Some(&good), &logits).unwrap_err();
        assert_eq!(error, NonFiniteLogit { side: Side::Model, token: 2, first_entry: 20 });
        let mut accumulator = Accumulator::pair(vec![0, 1, 2]);
        let error = accumulator.add(20, Some(&logits), &good).unwrap_err();
        assert_eq!(error, NonFiniteLogit { side: Side::Base, token: 2, first_entry: 0 });
    }
}
