//! The allocation against all combinations, tried one by one.

use proptest::prelude::*;
use slmc_quant::allocate::{AllocateError, Allocation, Budget, Candidate, MOST_POINTS, allocate};

fn totals(tensors: &[Vec<Candidate>], choices: &[usize]) -> (u64, f64) {
    tensors.iter().zip(choices).fold((0, 0.0), |(bytes, loss), (candidates, &n)| {
        (bytes + candidates[n].bytes, loss + candidates[n].loss)
    })
}

/// Every combination of candidates.
fn combinations(tensors: &[Vec<Candidate>]) -> Vec<Vec<usize>> {
    tensors.iter().fold(vec![Vec::new()], |all, candidates| {
        all.iter()
            .flat_map(|choices| (0..candidates.len()).map(|n| [choices.as_slice(), &[n]].concat()))
            .collect()
    })
}

fn problem(tensors: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Vec<Candidate>>> {
    // eighths add up exactly, so that equal sums are equal in any order
    let candidate = (1u64..60, 0u32..400)
        .prop_map(|(bytes, loss)| Candidate { bytes: 8 * bytes, loss: f64::from(loss) / 8.0 });
    proptest::collection::vec(proptest::collection::vec(candidate, 1..5), tensors)
}

proptest! {
    #[test]
    fn nothing_beats_it_within_the_bytes(tensors in problem(1..6), share in 0.0f64..1.2) {
        let sums: Vec<_> = combinations(&tensors).iter().map(|choices| totals(&tensors, choices)).collect();
        let (least, most) = (sums.iter().map(|s| s.0).min().unwrap(), sums.iter().map(|s| s.0).max().unwrap());
        let budget = (most as f64 * share) as u64;
        let best = sums.iter().filter(|s| s.0 <= budget).map(|s| s.1).min_by(f64::total_cmp);
        match allocate(&tensors, Budget::Bytes(budget)) {
            Ok(Allocation { choices, bytes, loss, slack }) => {
                prop_assert_eq!((bytes, loss), totals(&tensors, &choices));
                prop_assert!(bytes <= budget);
                prop_assert_eq!((Some(loss), slack), (best, 0));
                let fewest = sums.iter().filter(|s| s.1 == loss).map(|s| s.0).min();
                prop_assert_eq!(Some(bytes), fewest);
            }
            Err(error) => {
                prop_assert_eq!(best, None);
                prop_assert_eq!(error, AllocateError::TooFewBytes { budget, least });
            }
        }
    }

    #[test]
    fn nothing_smaller_keeps_the_loss(tensors in problem(1..6), share in 0.0f64..1.0) {
        let sums: Vec<_> = combinations(&tensors).iter().map(|choices| totals(&tensors, choices)).collect();
        let budget = (sums.iter().map(|s| s.1).fold(0.0, f64::max) * share * 8.0).floor() / 8.0;
        let best = sums.iter().filter(|s| s.1 <= budget).map(|s| s.0).min();
        match allocate(&tensors, Budget::Loss(budget)) {
            Ok(found) => {
                prop_assert_eq!((found.bytes, found.loss), totals(&tensors, &found.choices));
                prop_assert!(found.loss <= budget);
                prop_assert_eq!(Some(found.bytes), best);
            }
            Err(error) => {
                let least = sums.iter().map(|s| s.1).fold(f64::INFINITY, f64::min);
                prop_assert_eq!(best, None);
                prop_assert_eq!(error, AllocateError::TooLittleLoss { budget, least });
            }
        }
    }

    #[test]
    fn no_uniform_choice_that_fits_is_better(sizes in proptest::collection::vec((1u64..9, 0.0f64..1.0), 40), bits in 2u64..8) {
        // losses as of rounding: a factor of four a bit, each tensor with a sensitivity of its own
        let tensors: Vec<Vec<Candidate>> = sizes
            .iter()
            .map(|&(size, sensitivity)| {
                let of = |bits: u64| Candidate { bytes: size * bits * 1024, loss: sensitivity * 0.25f64.powi(bits as i32) };
                (2..=8).map(of).collect()
            })
            .collect();
        let (bytes, loss) = totals(&tensors, &vec![bits as usize - 2; tensors.len()]);
        let found = allocate(&tensors, Budget::Bytes(bytes)).unwrap();
        prop_assert!(found.bytes <= bytes && found.loss <= loss);
    }
}

#[test]
fn lists_too_long_are_thinned_and_the_budget_is_kept() {
    // bytes that share no divisor: nearly every combination has a sum of its own
    let tensors: Vec<Vec<Candidate>> = (0..24u64)
        .map(|n| {
            let small = 1_000_000_007 + n * n * 7_777_777;
            let large = small + 500_000_003 + (n * 7_368_787) % 90_000_049;
            let gain = 1.0 + 0.1 * ((n * 37) % 11) as f64;
            vec![Candidate { bytes: small, loss: gain }, Candidate { bytes: large, loss: 0.0 }]
        })
        .collect();
    let least: u64 = tensors.iter().map(|t| t[0].bytes).sum();
    let most: u64 = tensors.iter().map(|t| t[1].bytes).sum();
    let budget = (least + most) / 2;
    let found = allocate(&tensors, Budget::Bytes(budget)).unwrap();
    assert!(found.bytes <= budget);
    assert_eq!(found.bytes, totals(&tensors, &found.choices).0);
    assert!(found.slack <= 24 * (most / (MOST_POINTS as u64 - 2) + 1), "{}", found.slack);
    // every combination, by Gray code: none with that much less beats it
    let (mut bytes, mut loss) = (least, tensors.iter().map(|t| t[0].loss).sum::<f64>());
    let mut large = [false; 24];
    for code in 1u32..1 << 24 {
        let n = code.trailing_zeros() as usize;
        let (from, to) = (usize::from(large[n]), usize::from(!large[n]));
        bytes = bytes - tensors[n][from].bytes + tensors[n][to].bytes;
        loss += tensors[n][to].loss - tensors[n][from].loss;
        large[n] = !large[n];
        assert!(bytes + found.slack > budget || loss >= found.loss - 1e-6, "{bytes} {loss}");
    }
}

#[test]
fn what_is_no_problem_is_refused() {
    let one = Candidate { bytes: 1, loss: 0.0 };
    let bytes = Budget::Bytes(u64::MAX);
    assert_eq!(allocate(&[vec![one], vec![]], bytes), Err(AllocateError::Candidates { tensor: 1, found: 0 }));
    assert_eq!(allocate(&[vec![one; 257]], bytes), Err(AllocateError::Candidates { tensor: 0, found: 257 }));
    for loss in [f64::NAN, f64::INFINITY, -1.0] {
        let found = allocate(&[vec![one, Candidate { bytes: 1, loss }]], bytes);
        assert!(matches!(found, Err(AllocateError::Loss { tensor: 0, candidate: 1, .. })));
    }
    let huge = vec![Candidate { bytes: u64::MAX, loss: 0.0 }];
    assert_eq!(allocate(&[huge.clone(), huge], bytes), Err(AllocateError::Overflow));
    let nothing = allocate(&[], bytes).unwrap();
    assert_eq!((nothing.choices.len(), nothing.bytes, nothing.loss), (0, 0, 0.0));
}
