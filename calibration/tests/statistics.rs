//! Collectors against sums in f64, one value at a time.

use proptest::prelude::*;
use slmc_calibration::CalibrationError;
use slmc_calibration::statistics::{ColumnMoments, CrossMoment, SecondMoment};

/// Reproducible values of a rough bell shape with a few outliers, as activations have.
fn activations(tokens: usize, d_in: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1;
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..tokens * d_in)
        .map(|n| {
            let bell = uniform() + uniform() + uniform();
            if n % d_in == 3 { bell * 40.0 } else { bell }
        })
        .collect()
}

fn column(x: &[f32], d_in: usize, column: usize) -> impl Iterator<Item = f64> + '_ {
    x.iter().skip(column).step_by(d_in).map(|&v| f64::from(v))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// The sums are those of f64 in the order of the tokens, exactly, however the tokens arrive.
    #[test]
    fn column_moments_are_exact(tokens in 1usize..40, d_in in 1usize..1100, cut in 0usize..40, seed in 0u64..1000) {
        let x = activations(tokens, d_in, seed);
        let mut moments = ColumnMoments::new("test", d_in);
        let (first, second) = x.split_at(cut.min(tokens) * d_in);
        moments.add(first).unwrap();
        moments.add(second).unwrap();
        prop_assert_eq!(moments.tokens(), tokens as u64);
        for c in 0..d_in {
            prop_assert_eq!(moments.sum_abs()[c], column(&x, d_in, c).fold(0.0, |sum, v| sum + v.abs()));
            prop_assert_eq!(moments.sum_squares()[c], column(&x, d_in, c).fold(0.0, |sum, v| sum + v * v));
            prop_assert_eq!(f64::from(moments.max_abs()[c]), column(&x, d_in, c).fold(0.0, |max, v| v.abs().max(max)));
        }
    }

    /// H agrees with its definition within f32's rounding of one chunk, is symmetric, and its diagonal is
    /// twice the second moments.
    #[test]
    fn the_hessian_agrees_with_its_definition(tokens in 1usize..60, d_in in 1usize..600, seed in 0u64..1000) {
        let x = activations(tokens, d_in, seed);
        let (mut second, mut moments) = (SecondMoment::new("test", d_in), ColumnMoments::new("test", d_in));
        second.add(&x).unwrap();
        moments.add(&x).unwrap();
        let hessian = second.hessian();
        // The bound of a sum of this many f32 products, in any order, and of the final rounding.
        let bound = (tokens as f64 + 2.0) * f64::from(f32::EPSILON) / 2.0;
        for (i, j) in (0..400).map(|n| ((n * 7919) % d_in, (n * 104_729) % d_in)) {
            let products = column(&x, d_in, i).zip(column(&x, d_in, j)).map(|(a, b)| a * b);
            let (sum, magnitude) = products.fold((0.0, 0.0), |(s, m), p| (s + p, m + f64::abs(p)));
            let (expected, scale) = (2.0 * sum / tokens as f64, 2.0 * magnitude / tokens as f64);
            let found = f64::from(hessian[i * d_in + j]);
            prop_assert!((found - expected).abs() <= bound * scale, "({i}, {j}): {found} {expected}");
            prop_assert_eq!(hessian[i * d_in + j], hessian[j * d_in + i]);
        }
        for (on_diagonal, sum) in second.diagonal().iter().zip(moments.sum_squares()) {
            let expected = 2.0 * sum / tokens as f64;
            prop_assert!((on_diagonal - expected).abs() <= bound * expected);
        }
    }

    /// The mixed moments agree with their definition, and those of one activation with its Hessian to the bit.
    #[test]
    fn cross_moments_agree_with_their_definition(
        tokens in 1usize..60, widths in (1usize..300, 1usize..300), cut in 0usize..60, seed in 0u64..1000,
    ) {
        let (m, n) = widths;
        let (a, b) = (activations(tokens, m, seed), activations(tokens, n, seed + 1));
        let mut cross = CrossMoment::new("test", [m, n]);
        let cut = cut.min(tokens);
        cross.add(&a[..cut * m], &b[..cut * n]).unwrap();
        cross.add(&a[cut * m..], &b[cut * n..]).unwrap();
        let matrix = cross.matrix();
        let bound = (tokens as f64 + 2.0) * f64::from(f32::EPSILON) / 2.0;
        for (i, j) in (0..400).map(|k| ((k * 7919) % m, (k * 104_729) % n)) {
            let products = column(&a, m, i).zip(column(&b, n, j)).map(|(a, b)| a * b);
            let (sum, magnitude) = products.fold((0.0, 0.0), |(s, m), p| (s + p, m + f64::abs(p)));
            let (expected, scale) = (2.0 * sum / tokens as f64, 2.0 * magnitude / tokens as f64);
            let found = f64::from(matrix[i * n + j]);
            prop_assert!((found - expected).abs() <= bound * scale, "({i}, {j}): {found} {expected}");
        }
        let (mut own, mut second) = (CrossMoment::new("test", [m, m]), SecondMoment::new("test", m));
        own.add(&a, &a).unwrap();
        second.add(&a).unwrap();
        let (own, hessian) = (own.matrix(), second.hessian());
        for i in 0..m {
            prop_assert_eq!(&own[i * m..][..=i], &hessian[i * m..][..=i]);
        }
        prop_assert!(cross.add(&a, &b[..b.len() - 1]).is_err());
        prop_assert!(cross.add(&a, &b[..b.len() - n]).is_err());
    }

    /// Two halves merged are the whole.
    #[test]
    fn merging_is_adding(tokens in 2usize..30, d_in in 1usize..300, seed in 0u64..1000) {
        let x = activations(tokens, d_in, seed);
        let (first, second) = x.split_at(tokens / 2 * d_in);
        let mut whole = (ColumnMoments::new("test", d_in), SecondMoment::new("test", d_in));
        let mut halves = [whole.clone(), whole.clone()];
        for (half, x) in halves.iter_mut().zip([first, second]) {
            half.0.add(x).unwrap();
            half.1.add(x).unwrap();
            whole.0.add(x).unwrap();
            whole.1.add(x).unwrap();
        }
        let [mut merged, other] = halves;
        merged.0.merge(&other.0).unwrap();
        merged.1.merge(&other.1).unwrap();
        prop_assert_eq!(merged.1.tokens(), tokens as u64);
        prop_assert_eq!(merged.0.max_abs(), whole.0.max_abs());
        let close = |a: f32, b: f32| (a - b).abs() <= 2e-7 * a.abs().max(b.abs());
        prop_assert!(merged.0.mean_abs().iter().zip(whole.0.mean_abs()).all(|(a, b)| close(*a, b)));
        prop_assert_eq!(merged.1.hessian(), whole.1.hessian());
    }
}

/// The sum of very many equal values, which f32 could no longer add: 0.1 · 2²⁵ tokens.
#[test]
fn long_sums_do_not_stagnate() {
    let rows = vec![0.1f32; 1 << 20];
    let mut moments = ColumnMoments::new("test", 1);
    let mut second = SecondMoment::new("test", 1);
    for _ in 0..32 {
        moments.add(&rows).unwrap();
        second.add(&rows).unwrap();
    }
    let square = f64::from(0.1f32) * f64::from(0.1f32);
    assert!((f64::from(moments.second_moments()[0]) - square).abs() < 1e-9);
    assert!((second.diagonal()[0] - 2.0 * square).abs() < 2e-8);
}

/// The same bytes with one thread and with four.
#[test]
fn threads_do_not_matter() {
    let d_in = 1300;
    let x = activations(1500, d_in, 1);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let (mut second, mut moments) =
                (SecondMoment::new("test", d_in), ColumnMoments::new("test", d_in));
            second.add(&x).unwrap();
            moments.add(&x).unwrap();
            (second.hessian(), moments.mean_abs(), moments.second_moments())
        })
    };
    assert!(run(1) == run(4));
}

#[test]
fn bad_activations_are_refused_by_name() {
    let mut x = vec![1.0f32; 5000 * 3];
    x[4001 * 3 + 2] = f32::NAN;
    let mut moments = ColumnMoments::new("blk.7.ffn_down", 3);
    moments.add(&[0.0; 30]).unwrap();
    match moments.add(&x).unwrap_err() {
        CalibrationError::NonFinite { input, token, column, value } => {
            assert_eq!((input.as_str(), token, column), ("blk.7.ffn_down", 4011, 2));
            assert!(value.is_nan());
        }
        other => panic!("{other}"),
    }
    assert_eq!(moments.tokens(), 10, "nothing is added with an error");
    let mut second = SecondMoment::new("x", 3);
    x[4001 * 3 + 2] = f32::NEG_INFINITY;
    assert!(matches!(second.add(&x), Err(CalibrationError::NonFinite { token: 4001, column: 2, .. })));
    assert!(matches!(
        second.add(&[0.0; 4]),
        Err(CalibrationError::ActivationShape { d_in: 3, found: 4, .. })
    ));
    assert!(second.merge(&SecondMoment::new("x", 4)).is_err());
    assert!(moments.merge(&ColumnMoments::new("x", 4)).is_err());
}
