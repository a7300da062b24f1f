use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn flips(both: u64, gained: u64, lost: u64, neither: u64) -> Flips {
    Flips { both, gained, lost, neither }
}

/// Answers with these counts.
fn answers(flips: Flips) -> (Vec<bool>, Vec<bool>) {
    let Flips { both, gained, lost, neither } = flips;
    let times = |n: u64, pair: (bool, bool)| std::iter::repeat_n(pair, n as usize);
    let pairs = times(both, (true, true)).chain(times(gained, (true, false)));
    pairs.chain(times(lost, (false, true))).chain(times(neither, (false, false))).unzip()
}

/// See `tests/golden/make_paired.py`.
#[test]
fn tests_and_bounds_are_those_of_scipy() {
    let golden: Value = serde_json::from_str(include_str!("../../tests/golden/paired.json")).unwrap();
    let mcnemar = golden["mcnemar"].as_array().unwrap();
    assert!(mcnemar.len() > 20);
    for case in mcnemar {
        let [gained, lost] = [0, 1].map(|at| case[at].as_u64().unwrap());
        let (expected, found) = (case[2].as_f64().unwrap(), flips(5, gained, lost, 7).mcnemar());
        assert!(
            (found - expected).abs() <= 1e-9 * expected,
            "{gained} and {lost}: {found}, scipy {expected}"
        );
    }
    for case in golden["highest_rate"].as_array().unwrap() {
        let [events, n, confidence, expected] = [0, 1, 2, 3].map(|at| case[at].as_f64().unwrap());
        let found = highest_rate(events, n, confidence);
        assert!((found - expected).abs() < 1e-9, "{events} of {n}: {found}, scipy {expected}");
    }
}

proptest! {
    #[test]
    fn mcnemar_is_a_probability_without_sides(gained in 0u64..300, lost in 0u64..300, both in 0u64..9) {
        let p = flips(both, gained, lost, 0).mcnemar();
        prop_assert!(p > 0.0 && p <= 1.0);
        prop_assert_eq!(p, flips(0, lost, gained, 4).mcnemar());
        // the more one-sided, the less likely
        if gained > lost {
            prop_assert!(flips(both, gained + 1, lost, 0).mcnemar() <= p);
        }
    }

    #[test]
    fn bounds_hold_what_was_measured(both in 1u64..60, gained in 0u64..20, lost in 0u64..20, neither in 0u64..60) {
        let flips = flips(both, gained, lost, neither);
        let (model, base) = answers(flips);
        prop_assert_eq!(Flips::of(&model, &base), flips);
        let bounds = difference(&model, &base, 0.95);
        prop_assert!(bounds.low < flips.difference() && flips.difference() < bounds.high);
        let bounds = ratio(&model, &base, 0.95);
        prop_assert!(bounds.low < flips.ratio() && flips.ratio() < bounds.high);
        // the same the other way round
        let (forth, back) = (difference(&model, &base, 0.9), difference(&base, &model, 0.9));
        prop_assert!((forth.low + back.high).abs() < 1e-9, "{:?} {:?}", forth, back);
    }
}

#[test]
fn without_flips_there_is_no_test_but_there_are_bounds() {
    assert_eq!(flips(3, 0, 0, 4).mcnemar(), 1.0);
    let (model, base) = answers(flips(100, 0, 0, 100));
    let Interval { low, high } = difference(&model, &base, 0.95);
    // none of 200: a rate of 1 - 0.05^(1/200) would leave one run in twenty without any
    let rate = 1.0 - 0.05f64.powf(1.0 / 200.0);
    assert!((low + rate).abs() < 1e-7 && (high - rate).abs() < 1e-7, "{low} {high}");
}

#[test]
fn as_many_items_as_needed_are_enough() {
    for counts in [flips(60, 0, 0, 40), flips(60, 4, 2, 34), flips(50, 9, 20, 21)] {
        for (distance, below) in [(0.012, true), (0.05, true), (0.03, false)] {
            let needed = counts.items_needed(distance, below, 0.95).unwrap();
            let bound = |items: u64| {
                let share = items as f64 / 100.0;
                let of = |count: u64| (count as f64 * share).round() as u64;
                let [both, gained, lost] = [counts.both, counts.gained, counts.lost].map(of);
                let scaled = flips(both, gained, lost, items - both - gained - lost);
                let (model, base) = answers(scaled);
                let bounds = difference(&model, &base, 0.95);
                if below { scaled.difference() - bounds.low } else { bounds.high - scaled.difference() }
            };
            assert!(bound(2 * needed) < distance, "{counts:?}: {needed} for {distance}");
            assert!(bound(needed / 2) > distance, "{counts:?}: {needed} for {distance}");
        }
    }
    assert_eq!(flips(5, 0, 0, 5).items_needed(1e-12, true, 0.95), None);
    // Wilson's bound takes over without a step
    let (exact, wilson) = (highest_rate(500.0, 9000.0, 0.95), highest_rate(500.001, 9000.0, 0.95));
    assert!((exact - wilson).abs() < 2e-4, "{exact} {wilson}");
}

/// In samples from known rates the bounds are missed as rarely as stated, with many flips and with few.
#[test]
fn bounds_are_missed_as_rarely_as_stated() {
    const RUNS: usize = 200;
    let mut random = fastrand::Rng::with_seed(11);
    for (items, gained, lost) in [(200, 0.08, 0.10), (300, 0.01, 0.01), (150, 0.0, 0.02), (400, 0.03, 0.12)] {
        let (mut below, mut above) = (0, 0);
        for _ in 0..RUNS {
            let draw = |_| match random.f64() {
                x if x < gained => (true, false),
                x if x < gained + lost => (false, true),
                x => (x < 0.7, x < 0.7),
            };
            let (model, base): (Vec<_>, Vec<_>) = (0..items).map(draw).unzip();
            let Interval { low, high } = difference(&model, &base, 0.95);
            below += usize::from(gained - lost < low);
            above += usize::from(gained - lost > high);
        }
        println!("{items} items, {gained} gained, {lost} lost: {below} below, {above} above of {RUNS}");
        // 5 % of 200 are 10, with a standard deviation of 3.1
        assert!(below <= 19 && above <= 19, "{items}, {gained}, {lost}: {below} below, {above} above");
    }
}
