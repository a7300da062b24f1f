use super::*;
use crate::{Evaluation, Protocol, Scores, Window};

const ROWS: usize = 4;

/// An evaluation whose windows have these mean divergences, increases of nll and shares of agreement.
fn evaluation(windows: &[(f64, f64, f64)]) -> Evaluation {
    let mut scores = Scores { nll: Vec::new(), drift: Some(Vec::new()) };
    for &(kl, increase, same) in windows {
        for row in 0..ROWS {
            scores.nll.push(3.0 + increase);
            let same_top = (row as f64) < same * ROWS as f64;
            scores.drift.as_mut().unwrap().push(Drift {
                base_nll: 3.0,
                kl,
                delta_p: 0.0,
                same_top,
                in_top5: true,
            });
        }
    }
    let window = |index| Window { start: 2 * ROWS * index, len: 2 * ROWS, scored: ROWS - 1..2 * ROWS - 1 };
    let read: Vec<_> = (0..windows.len()).map(window).collect();
    let protocol = Protocol { n_ctx: 2 * ROWS, ..Protocol::new(None) };
    Evaluation::new(&protocol, &read, windows.len(), Vec::new(), scores)
}

fn verdict(windows: &[(f64, f64, f64)], limits: Limits) -> Check {
    judge(Some(&evaluation(windows)), 100, &limits, 0.95)[0]
}

#[test]
fn clear_cases_are_told_and_close_ones_are_not() {
    let windows: Vec<_> = (0..40).map(|i| (0.01 + 0.0001 * f64::from(i % 7), 0.02, 0.75)).collect();
    let kl = |limit| verdict(&windows, Limits { max_kl: Some(limit), ..Limits::default() });
    assert_eq!(kl(0.02).verdict, Verdict::Passed);
    assert_eq!(kl(0.005).verdict, Verdict::Regression);
    let close = kl(0.0103);
    assert_eq!(close.verdict, Verdict::Undecided);
    assert!(close.windows_needed.unwrap() > 40, "{close:?}");
    let Interval { low, high } = close.interval.unwrap();
    assert!(low < close.value && close.value < high && high - low < 0.0002, "{close:?}");

    let increase = |limit| verdict(&windows, Limits { max_ppl_increase: Some(limit), ..Limits::default() });
    // every window alike: known exactly
    assert!((increase(0.1).value - 0.02f64.exp_m1()).abs() < 1e-12);
    assert_eq!((increase(0.021).verdict, increase(0.020).verdict), (Verdict::Passed, Verdict::Regression));
    let agreement = |limit| verdict(&windows, Limits { min_top1: Some(limit), ..Limits::default() }).verdict;
    assert_eq!((agreement(0.7), agreement(0.8)), (Verdict::Passed, Verdict::Regression));
}

#[test]
fn few_windows_decide_nothing_and_sizes_are_exact() {
    let few = vec![(0.5, 0.5, 0.0); FEWEST_WINDOWS - 1];
    let check = verdict(&few, Limits { max_kl: Some(0.01), ..Limits::default() });
    assert_eq!((check.verdict, check.windows_needed), (Verdict::Undecided, Some(10)));
    let size = |limit| judge(None, 100, &Limits { max_bytes: Some(limit), ..Limits::default() }, 0.95);
    assert_eq!(conclusion(&size(100)), Verdict::Passed);
    assert_eq!(conclusion(&size(99)), Verdict::Regression);
    assert_eq!(conclusion(&[]), Verdict::Undecided);
}

#[test]
fn the_worst_verdict_counts() {
    let windows: Vec<_> = (0..20).map(|i| (0.01 + 0.001 * f64::from(i % 3), 0.0, 1.0)).collect();
    let limits = Limits { max_kl: Some(0.02), min_top1: Some(0.9), max_bytes: Some(99), ..Limits::default() };
    let checks = judge(Some(&evaluation(&windows)), 100, &limits, 0.95);
    let verdicts: Vec<_> = checks.iter().map(|check| check.verdict).collect();
    assert_eq!(verdicts, [Verdict::Passed, Verdict::Passed, Verdict::Regression]);
    assert_eq!(conclusion(&checks), Verdict::Regression);
}

#[test]
fn a_baseline_tells_small_changes_apart_on_the_same_windows() {
    // windows that differ far more from each other than the models do
    let windows = |factor: f64| -> Vec<_> {
        (0..40).map(|i| (factor * 0.01 * f64::from(1 + i % 5) + 1e-5 * f64::from(i % 3), 0.0, 1.0)).collect()
    };
    let baseline = Baseline::of(&evaluation(&windows(1.0)), "text", &[]);
    let growth = |factor| baseline.check(&evaluation(&windows(factor)), "text", 0.1, 0.95).unwrap();
    assert_eq!(growth(1.0).value, 0.0);
    assert_eq!((growth(1.0).verdict, growth(1.09).verdict), (Verdict::Passed, Verdict::Passed));
    assert_eq!(growth(1.11).verdict, Verdict::Regression);
    assert!((growth(1.2).value - 0.2).abs() < 1e-3);
    // from no loss at all
    let none = Baseline::of(&evaluation(&[(0.0, 0.0, 1.0); 40]), "text", &[]);
    let against_none =
        |kl| none.check(&evaluation(&[(kl, 0.0, 1.0); 40]), "text", 0.1, 0.95).unwrap().verdict;
    assert_eq!((against_none(0.0), against_none(1e-9)), (Verdict::Passed, Verdict::Regression));
}

#[test]
fn a_baseline_of_something_else_decides_nothing() {
    let now = evaluation(&[(0.1, 0.0, 1.0); 20]);
    let baseline = Baseline::of(&now, "text", &[]);
    let refused = |baseline: &Baseline, text: &str| baseline.check(&now, text, 0.1, 0.95).unwrap_err();
    assert_eq!(refused(&baseline, "other text"), Incomparable::Text);
    let fewer = Baseline { kl_divergence: vec![0.1; 19], ..baseline.clone() };
    assert!(refused(&fewer, "text").to_string().contains("19 windows of 8 tokens, this model on 20"));
    let later = Baseline { slmc_gate: 2, ..baseline };
    assert_eq!(refused(&later, "text"), Incomparable::Version { found: 2 });
}

#[test]
fn windows_of_unequal_length_count_by_their_tokens() {
    let windows: Vec<_> = (0..20).map(|i| (0.01 * f64::from(1 + i % 3), 0.0, 1.0)).collect();
    let mut strided = evaluation(&windows);
    let even = window_means(&strided, |_, drift| drift.kl);
    assert!(even.iter().zip(&windows).all(|(mean, (kl, ..))| (mean - kl).abs() < 1e-15));
    // the same rows in one long window, and shorter ones
    strided.read[0].scored = 0..ROWS + 3;
    strided.read[1].scored = 0..ROWS - 3;
    let uneven = window_means(&strided, |_, drift| drift.kl);
    let mean = uneven.iter().sum::<f64>() / uneven.len() as f64;
    let all = strided.scores.drift.as_ref().unwrap();
    let expected = all.iter().map(|drift| drift.kl).sum::<f64>() / all.len() as f64;
    assert!((mean - expected).abs() < 1e-15, "{mean} {expected}");
    let baseline = Baseline::of(&evaluation(&windows), "text", &[]);
    let other = Evaluation { windowing: crate::Windowing::Strided, stride: 4, ..evaluation(&windows) };
    let refused = baseline.check(&other, "text", 0.1, 0.95).unwrap_err();
    assert!(refused.to_string().contains("windows side by side, this model with a stride of 4"), "{refused}");
}

/// A model exactly at its limit, with divergences as skewed as real ones: false alarms and false passes are as rare as stated.
#[test]
fn alarms_are_as_rare_as_stated() {
    const RUNS: usize = 500;
    let mut random = fastrand::Rng::with_seed(7);
    let mut normal = || (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
    let (mut alarms, mut passes) = (0, 0);
    for _ in 0..RUNS {
        // log-normal with σ = 0.5, whose mean is e^(σ²/2)
        let windows: Vec<_> = (0..60).map(|_| ((0.5 * normal()).exp(), 0.0, 1.0)).collect();
        let limits = Limits { max_kl: Some(0.125f64.exp()), ..Limits::default() };
        match verdict(&windows, limits).verdict {
            Verdict::Regression => alarms += 1,
            Verdict::Passed => passes += 1,
            Verdict::Undecided => {}
        }
    }
    // 5 % of 500 are 25, with a standard deviation of 4.9
    println!("{alarms} alarms, {passes} passes of {RUNS}");
    assert!((10..=40).contains(&alarms), "{alarms} alarms");
    assert!((10..=40).contains(&passes), "{passes} passes");
}

/// Both answers to items, `right` of 100 of them right by both, with flips in between.
fn answers(items: usize, right: usize, gained: usize, lost: usize) -> (Vec<bool>, Vec<bool>) {
    let answer = |at| match at % 100 {
        at if at < gained => (true, false),
        at if at < gained + lost => (false, true),
        at => (at < gained + lost + right, at < gained + lost + right),
    };
    (0..items).map(answer).unzip()
}

#[test]
fn accuracy_is_decided_by_enough_items() {
    let accuracy = |items, gained, lost, limit| {
        let (model, base) = answers(items, 60, gained, lost);
        check_accuracy(&model, &base, limit, 0.95)
    };
    assert_eq!(accuracy(1000, 0, 0, 0.98).verdict, Verdict::Passed);
    assert_eq!(accuracy(1000, 1, 10, 0.98).verdict, Verdict::Regression);
    let close = accuracy(300, 2, 2, 0.98);
    assert_eq!((close.verdict, close.value), (Verdict::Undecided, 1.0));
    assert!(close.windows_needed.is_some_and(|needed| (300..5000).contains(&needed)), "{close:?}");
    // five items tell nothing, whether all are right or all wrong
    let five = accuracy(5, 0, 0, 0.98);
    assert_eq!((five.verdict, five.interval), (Verdict::Undecided, None));
    assert!(five.windows_needed.is_some_and(|needed| needed > 100), "{five:?}");
    let lost = check_accuracy(&[false; 5], &[true; 5], 0.98, 0.95);
    assert_eq!((lost.verdict, lost.windows_needed), (Verdict::Undecided, Some(FEWEST_ITEMS)));
    // at the limit no number of items decides; a base that knows nothing neither
    assert_eq!(accuracy(300, 2, 2, 1.0).windows_needed, None);
    let none = check_accuracy(&[true; 50], &[false; 50], 0.98, 0.95);
    assert_eq!((none.verdict, none.windows_needed), (Verdict::Undecided, None));
}

/// A model as good as its base, resampled: whatever is measured of it breaks a limit at what it truly is no oftener than
/// stated, and a limit that leaves it room hardly ever.
#[test]
fn resamples_of_an_unchanged_model_raise_no_more_alarms_than_stated() {
    const RUNS: usize = 200;
    let mut random = fastrand::Rng::with_seed(3);
    let mut normal = || (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
    let population: Vec<_> = (0..120)
        .map(|_| (0.01 * (0.7 * normal()).exp(), 0.02 * normal(), 0.75 + 0.25 * f64::from(normal() > 0.0)))
        .collect();
    // what is true of the population, as the gate itself measures it
    let exact = |limits| verdict(&population, limits).value;
    let exact_kl = exact(Limits { max_kl: Some(0.0), ..Limits::default() });
    let exact_ppl = exact(Limits { max_ppl_increase: Some(0.0), ..Limits::default() });
    let exact_top1 = exact(Limits { min_top1: Some(0.0), ..Limits::default() });
    let tight = Limits {
        max_kl: Some(exact_kl),
        max_ppl_increase: Some(exact_ppl),
        min_top1: Some(exact_top1),
        ..Limits::default()
    };
    let (model, base) = answers(200, 60, 4, 4);
    let baseline = Baseline::of(&evaluation(&population), "text", &[]);

    let mut alarms = [0; 4];
    let mut roomy_alarms = 0;
    for _ in 0..RUNS {
        let windows: Vec<_> = (0..population.len()).map(|_| random.usize(..population.len())).collect();
        let sample: Vec<_> = windows.iter().map(|&window| population[window]).collect();
        let mut checks = judge(Some(&evaluation(&sample)), 100, &tight, 0.95);
        let items: Vec<_> = (0..model.len()).map(|_| random.usize(..model.len())).collect();
        let of = |answers: &[bool]| -> Vec<bool> { items.iter().map(|&item| answers[item]).collect() };
        checks.push(check_accuracy(&of(&model), &of(&base), 1.0, 0.95));
        assert_eq!(checks.len(), alarms.len());
        for (alarms, check) in alarms.iter_mut().zip(&checks) {
            *alarms += usize::from(check.verdict == Verdict::Regression);
        }
        roomy_alarms +=
            usize::from(check_accuracy(&of(&model), &of(&base), 0.95, 0.95).verdict == Verdict::Regression);
        // the same model on the same windows as its baseline: no change, and no alarm at all
        let kept: Vec<_> = windows.iter().map(|&window| baseline.kl_divergence[window]).collect();
        let kept = Baseline { kl_divergence: kept, ..baseline.clone() };
        let growth = kept.check(&evaluation(&sample), "text", 0.0, 0.95).unwrap();
        assert_eq!(growth.verdict, Verdict::Passed, "{growth:?}");
    }
    println!(
        "alarms of {RUNS}: KL, perplexity, top-1, accuracy {alarms:?}; accuracy with room {roomy_alarms}"
    );
    // 5 % of 200 are 10, with a standard deviation of 3.1
    assert!(alarms.iter().all(|&alarms| alarms <= 19), "{alarms:?}");
    assert!(alarms.iter().sum::<usize>() > 0, "limits that tight raise some");
    assert_eq!(roomy_alarms, 0);
}
