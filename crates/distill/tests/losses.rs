//! Losses and gradients against PyTorch's (see `golden/make_losses.py`), and what they obey.

use proptest::prelude::*;
use serde_json::Value;
use slmc_distill::{Divergence, HeadInput, HeadLoss, Objective, Teaching};
use slmc_matmul::Precision;
use slmc_model::ops::LogitTransform;

struct Golden {
    shape: Value,
    numbers: Vec<f32>,
}

fn golden() -> Golden {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let shape =
        serde_json::from_str(&std::fs::read_to_string(directory.join("losses.json")).unwrap()).unwrap();
    let bytes = std::fs::read(directory.join("losses.f32")).unwrap();
    Golden {
        shape,
        numbers: bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
    }
}

/// The largest difference, relative to the largest value expected.
fn relative(found: &[f32], expected: &[f32]) -> f32 {
    let largest = expected.iter().fold(0.0f32, |a, b| a.max(b.abs()));
    let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    differences.fold(0.0f32, f32::max) / largest.max(f32::MIN_POSITIVE)
}

#[test]
fn values_and_gradients_are_those_of_pytorch() {
    let Golden { shape, numbers } = golden();
    let of = |name: &str| shape[name].as_u64().unwrap() as usize;
    let (tokens, vocab, width, teacher_width) =
        (of("tokens"), of("vocab"), of("student_width"), of("teacher_width"));
    let labels: Vec<Option<u32>> =
        shape["labels"].as_array().unwrap().iter().map(|label| label.as_u64().map(|id| id as u32)).collect();
    let mut rest = numbers.as_slice();
    let mut take = |n: usize| -> Vec<f32> {
        let (first, after) = rest.split_at(n);
        rest = after;
        first.to_vec()
    };
    let (hidden, weight) = (take(tokens * width), take(vocab * width));
    let (teacher_hidden, teacher_weight) = (take(tokens * teacher_width), take(vocab * teacher_width));
    let cases = shape["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 24);
    for case in cases {
        let objective = Objective {
            divergence: case["divergence"].as_str().unwrap().parse().unwrap(),
            temperature: case["temperature"].as_f64().unwrap() as f32,
            alpha: case["alpha"].as_f64().unwrap() as f32,
        };
        let loss = HeadLoss { objective: &objective, vocab, weight: 0.25 };
        let student = HeadInput {
            hidden: &hidden,
            weight: &weight,
            width,
            logits: LogitTransform::default(),
            precision: Precision::F32,
        };
        let teacher = HeadInput {
            hidden: &teacher_hidden,
            weight: &teacher_weight,
            width: teacher_width,
            logits: LogitTransform::default(),
            precision: Precision::F32,
        };
        let mut d_weight = vec![0.0; vocab * width];
        let (sums, d_hidden) =
            loss.evaluate(student, Some(Teaching::Live(teacher)), &labels, Some(&mut d_weight));
        assert_eq!(sums.tokens, 4);
        let expected = case["loss"].as_f64().unwrap();
        let found = sums.loss(&objective);
        assert!((found - expected).abs() <= 1e-5 * expected.max(1.0), "{case}: {found}");
        let hard = sums.cross_entropy / 4.0;
        assert!((hard - case["cross_entropy"].as_f64().unwrap()).abs() < 1e-5, "{case}: {hard}");
        let (expected_hidden, expected_weight) = (take(tokens * width), take(vocab * width));
        let (off_hidden, off_weight) =
            (relative(&d_hidden, &expected_hidden), relative(&d_weight, &expected_weight));
        assert!(off_hidden < 1e-4 && off_weight < 1e-4, "{case}: {off_hidden:e} {off_weight:e}");
    }
    assert!(rest.is_empty(), "golden values left over");
}

fn any_divergence() -> impl Strategy<Value = Divergence> {
    prop_oneof![
        Just(Divergence::ForwardKl),
        Just(Divergence::ReverseKl),
        (0.05f32..0.95).prop_map(|beta| Divergence::JensenShannon { beta }),
        (0.0f32..0.9).prop_map(|skew| Divergence::SkewKl { skew }),
        Just(Divergence::LogitMse),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A student that predicts what its teacher predicts has no loss and nothing to learn; every other has a loss above zero.
    #[test]
    fn divergences_are_zero_exactly_where_both_agree(
        divergence in any_divergence(),
        temperature in 0.5f32..4.0,
        seed in 0u64..1000,
    ) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut noise = |n: usize| -> Vec<f32> { (0..n).map(|_| 4.0 * random.f32() - 2.0).collect() };
        let (tokens, vocab, width) = (3, 50, 6);
        let (hidden, weight, other) = (noise(tokens * width), noise(vocab * width), noise(tokens * width));
        let objective = Objective { divergence, temperature, alpha: 0.0 };
        let loss = HeadLoss { objective: &objective, vocab, weight: 1.0 };
        let labels = [Some(1), Some(2), Some(49)];
        let input = |hidden| HeadInput { hidden, weight: &weight, width, logits: LogitTransform::default(), precision: Precision::F32 };
        let (same, nothing) = loss.evaluate(input(&hidden), Some(Teaching::Live(input(&hidden))), &labels, None);
        prop_assert!(same.divergence.abs() < 2e-5, "{}", same.divergence);
        prop_assert!(nothing.iter().all(|g| g.abs() < 2e-5));
        let (apart, _) = loss.evaluate(input(&hidden), Some(Teaching::Live(input(&other))), &labels, None);
        prop_assert!(apart.divergence > 1e-4, "{}", apart.divergence);
    }

    /// Skew KL without skew is KL.
    #[test]
    fn skew_of_nothing_is_forward_kl(seed in 0u64..1000) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut noise = |n: usize| -> Vec<f32> { (0..n).map(|_| 4.0 * random.f32() - 2.0).collect() };
        let (a, b, weight) = (noise(6), noise(6), noise(40 * 6));
        let input = |hidden| HeadInput { hidden, weight: &weight, width: 6, logits: LogitTransform::default(), precision: Precision::F32 };
        let of = |divergence| {
            let objective = Objective { divergence, temperature: 1.5, alpha: 0.0 };
            HeadLoss { objective: &objective, vocab: 40, weight: 1.0 }.evaluate(input(&a), Some(Teaching::Live(input(&b))), &[Some(0)], None)
        };
        let ((skewed, d_skewed), (plain, d_plain)) = (of(Divergence::SkewKl { skew: 0.0 }), of(Divergence::ForwardKl));
        prop_assert!((skewed.divergence - plain.divergence).abs() < 1e-5 * plain.divergence.max(1.0));
        prop_assert!(relative(&d_skewed, &d_plain) < 1e-4);
    }
}

/// However long the text is, the pieces it is cut into change nothing, and neither does the number of threads.
#[test]
fn pieces_and_threads_leave_no_trace() {
    let mut random = fastrand::Rng::with_seed(3);
    let (tokens, vocab, width) = (150, 40_000, 4);
    let mut noise = |n: usize| -> Vec<f32> { (0..n).map(|_| random.f32() - 0.5).collect() };
    let (hidden, weight, teacher) = (noise(tokens * width), noise(vocab * width), noise(tokens * width));
    let labels: Vec<Option<u32>> = (0..tokens as u32).map(|i| (i % 7 != 0).then_some(i * 200)).collect();
    let objective = Objective::default();
    let loss = HeadLoss { objective: &objective, vocab, weight: 0.01 };
    let run = |tokens: std::ops::Range<usize>| {
        let input = |hidden| HeadInput {
            hidden,
            weight: &weight,
            width,
            logits: LogitTransform::default(),
            precision: Precision::F32,
        };
        let rows = tokens.start * width..tokens.end * width;
        let mut d_weight = vec![0.0; vocab * width];
        let student = input(&hidden[rows.clone()]);
        let (sums, d) = loss.evaluate(
            student,
            Some(Teaching::Live(input(&teacher[rows]))),
            &labels[tokens],
            Some(&mut d_weight),
        );
        (sums, d, d_weight)
    };
    let with_threads = |threads| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| run(0..tokens))
    };
    let (sums, d_hidden, d_weight) = with_threads(1);
    let (same_sums, same_hidden, same_weight) = with_threads(3);
    assert!(sums == same_sums && d_hidden == same_hidden && d_weight == same_weight);
    let (mut total, mut rows) = (slmc_distill::LossSums::default(), Vec::new());
    for token in 0..tokens {
        let (sums, d, _) = run(token..token + 1);
        total.add(&sums);
        rows.extend(d);
    }
    assert_eq!(total.tokens, sums.tokens);
    assert!((total.divergence - sums.divergence).abs() < 1e-6 * sums.divergence);
    assert!(relative(&rows, &d_hidden) < 1e-5);
}

/// Gradients through a scale or a cap of logits, against differences of the loss.
#[test]
fn scaled_and_capped_logits_have_their_own_gradients() {
    let objective = Objective { divergence: Divergence::ForwardKl, temperature: 1.0, alpha: 1.0 };
    let (width, vocab, labels) = (3, 5, [Some(4), Some(1)]);
    let loss = HeadLoss { objective: &objective, vocab, weight: 0.5 };
    let wave = |len: usize, step: f32| -> Vec<f32> { (0..len).map(|i| (i as f32 * step).sin()).collect() };
    let (hidden, weight) = (wave(2 * width, 1.7), wave(vocab * width, 2.3));
    for logits in [
        LogitTransform { scale: 0.25, softcap: None },
        LogitTransform { scale: 1.0, softcap: Some(0.8) },
        LogitTransform { scale: 2.0, softcap: Some(1.5) },
    ] {
        let of = |hidden: &[f32], weight: &[f32]| {
            let input = HeadInput { hidden, weight, width, logits, precision: Precision::F32 };
            loss.evaluate(input, None, &labels, None).0.loss(&objective)
        };
        let mut d_weight = vec![0.0; vocab * width];
        let input = HeadInput { hidden: &hidden, weight: &weight, width, logits, precision: Precision::F32 };
        let (_, d_hidden) = loss.evaluate(input, None, &labels, Some(&mut d_weight));
        let moved = |values: &[f32], at: usize, by: f32| {
            let mut values = values.to_vec();
            values[at] += by;
            values
        };
        const STEP: f32 = 1e-2;
        for (at, &found) in d_hidden.iter().enumerate() {
            let [up, down] = [STEP, -STEP].map(|by| of(&moved(&hidden, at, by), &weight));
            let expected = (up - down) / f64::from(2.0 * STEP);
            assert!(
                (f64::from(found) - expected).abs() < 1e-4,
                "{logits:?}, hidden {at}: {found}, {expected}"
            );
        }
        for (at, &found) in d_weight.iter().enumerate() {
            let [up, down] = [STEP, -STEP].map(|by| of(&hidden, &moved(&weight, at, by)));
            let expected = (up - down) / f64::from(2.0 * STEP);
            assert!(
                (f64::from(found) - expected).abs() < 1e-4,
                "{logits:?}, weight {at}: {found}, {expected}"
            );
        }
    }
}
