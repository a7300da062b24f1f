//! Parallel rounding against the serial encoder, and the losses against plain loops.

mod random;

use random::Random;
use slmc_gguf::blocks::GramBlocks;
use slmc_gguf::{TensorType, blocks};
use slmc_quant::loss::{InputStatistics, output_energy, output_error, relative_error, relative_output_error};
use slmc_quant::{QuantError, rtn};

const ROWS: usize = 150;
const COLUMNS: usize = 512;

fn on_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

#[test]
fn parallel_rounding_is_the_serial_encoder_at_any_thread_count() {
    let mut random = Random(1);
    let weights = random.normals(ROWS * COLUMNS, 0.02);
    let importance = random.log_normals(COLUMNS, 1.0);
    for ty in TensorType::ALL {
        for importance in [None, Some(&importance[..])] {
            let mut serial = vec![0; ty.bytes_for(ROWS * COLUMNS).unwrap()];
            blocks::encode(ty, &weights, COLUMNS, importance, &mut serial).unwrap();
            let mut read = vec![0.0; ROWS * COLUMNS];
            blocks::decode(ty, &serial, &mut read).unwrap();
            for threads in [1, 3] {
                let mut bytes = vec![0; serial.len()];
                let mut rounded = vec![0.0; ROWS * COLUMNS];
                on_threads(threads, || {
                    rtn::quantize_rows(ty, &weights, COLUMNS, importance, &mut bytes).unwrap();
                    rtn::round_trip(ty, &weights, COLUMNS, importance, &mut rounded).unwrap();
                });
                assert!(bytes == serial, "{ty}: bytes differ");
                assert!(rounded == read, "{ty}: values differ");
                rounded.fill(0.0);
                rtn::dequantize_rows(ty, &bytes, COLUMNS, &mut rounded).unwrap();
                assert!(rounded == read, "{ty}: decoded values differ");
            }
        }
    }
}

#[test]
fn losses_are_those_of_plain_loops_at_any_thread_count() {
    let (rows, columns, tokens) = (300, 64, 37);
    let mut random = Random(2);
    let weights = random.normals(rows * columns, 1.0);
    let mut rounded = vec![0.0; weights.len()];
    rtn::round_trip(TensorType::Q4_0, &weights, columns, None, &mut rounded).unwrap();
    let x = random.normals(tokens * columns, 2.0);
    let mut covariance = vec![0f32; columns * columns];
    for i in 0..columns {
        for j in 0..columns {
            let sum: f64 =
                (0..tokens).map(|t| f64::from(x[t * columns + i]) * f64::from(x[t * columns + j])).sum();
            covariance[i * columns + j] = (sum / tokens as f64) as f32;
        }
    }
    let moments: Vec<f32> = (0..columns).map(|j| covariance[j * columns + j]).collect();

    let (mut error, mut energy, mut diagonal) = (0f64, 0f64, 0f64);
    for row in 0..rows {
        for token in x.chunks_exact(columns) {
            let at = |w: &[f32]| -> f64 {
                (0..columns).map(|j| f64::from(w[row * columns + j]) * f64::from(token[j])).sum()
            };
            error += (at(&rounded) - at(&weights)).powi(2) / tokens as f64;
            energy += at(&weights).powi(2) / tokens as f64;
        }
        for j in 0..columns {
            let d = f64::from(rounded[row * columns + j] - weights[row * columns + j]);
            diagonal += d * d * f64::from(moments[j]);
        }
    }
    let close = |found: f64, expected: f64| {
        assert!((found / expected - 1.0).abs() < 1e-4, "{found} for {expected}");
    };
    let samples = InputStatistics::Samples(&x);
    close(output_error(&weights, &rounded, columns, samples).unwrap(), error);
    close(
        output_error(&weights, &rounded, columns, InputStatistics::Covariance(&covariance)).unwrap(),
        error,
    );
    close(output_energy(&weights, columns, samples).unwrap(), energy);
    close(relative_output_error(&weights, &rounded, columns, samples).unwrap(), (error / energy).sqrt());
    close(
        output_error(&weights, &rounded, columns, InputStatistics::SecondMoments(&moments)).unwrap(),
        diagonal,
    );

    // one run of all columns knows all of them, runs of one column the diagonal
    let whole = GramBlocks::new(columns, covariance.clone()).unwrap();
    let single = GramBlocks::new(1, moments.to_vec()).unwrap();
    close(output_error(&weights, &rounded, columns, InputStatistics::Products(&whole)).unwrap(), error);
    close(output_error(&weights, &rounded, columns, InputStatistics::Products(&single)).unwrap(), diagonal);

    for statistics in
        [samples, InputStatistics::Covariance(&covariance), InputStatistics::SecondMoments(&moments)]
    {
        let one = on_threads(1, || output_error(&weights, &rounded, columns, statistics).unwrap());
        let three = on_threads(3, || output_error(&weights, &rounded, columns, statistics).unwrap());
        assert_eq!(one.to_bits(), three.to_bits());
    }
}

#[test]
fn relative_error_is_the_ratio_of_norms() {
    assert_eq!(relative_error(&[3.0, 4.0], &[3.0, 4.0]).unwrap(), 0.0);
    assert_eq!(relative_error(&[3.0, 4.0], &[0.0, 0.0]).unwrap(), 1.0);
    assert!((relative_error(&[3.0, 4.0], &[3.0, 3.5]).unwrap() - 0.1).abs() < 1e-12);
    assert_eq!(relative_error(&[0.0], &[0.0]).unwrap(), 0.0);
}

#[test]
fn lengths_that_do_not_fit_are_errors() {
    let weights = vec![0.5; 64];
    let mut out = vec![0; 36];
    let mut rounded = vec![0.0; 64];
    assert!(matches!(
        rtn::quantize_rows(TensorType::Q4_K, &weights, 64, None, &mut out),
        Err(QuantError::Columns { block_len: 256, columns: 64, .. })
    ));
    let length = |result: Result<(), QuantError>| assert!(matches!(result, Err(QuantError::Length { .. })));
    length(rtn::quantize_rows(TensorType::Q4_0, &weights, 0, None, &mut out));
    length(rtn::quantize_rows(TensorType::Q4_0, &weights, 96, None, &mut out));
    length(rtn::quantize_rows(TensorType::Q4_0, &weights, 64, None, &mut out[..35]));
    length(rtn::round_trip(TensorType::Q4_0, &weights, 64, None, &mut rounded[..32]));
    length(rtn::dequantize_rows(TensorType::Q4_0, &out[..18], 64, &mut rounded));
    let missing = Some(&[1.0f32; 32][..]);
    assert!(matches!(
        rtn::quantize_rows(TensorType::Q4_0, &weights, 64, missing, &mut out),
        Err(QuantError::Block(_))
    ));
    let mut infinite = weights.clone();
    infinite[7] = f32::INFINITY;
    assert!(rtn::quantize_rows(TensorType::Q4_0, &infinite, 64, None, &mut out).is_err());
    let none = InputStatistics::Samples(&[]);
    assert!(output_error(&weights, &rounded, 64, none).is_err());
    assert!(output_error(&weights, &rounded[..32], 64, InputStatistics::SecondMoments(&weights)).is_err());
    assert!(output_energy(&weights, 64, InputStatistics::Covariance(&weights)).is_err());
}
