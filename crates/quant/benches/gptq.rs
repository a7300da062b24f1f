//! Error feedback and what it stands on, on a layer of 1024 columns: elements are weights.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use slmc_gguf::TensorType;
use slmc_quant::Effort;
use slmc_quant::gptq::{FeedbackFactor, InputCorrection, Order, quantize};

const COLUMNS: usize = 1024;
const ROWS: usize = 512;
const DAMPING: f64 = 0.1;

fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..n).map(|_| uniform() + uniform() + uniform()).collect()
}

/// H of inputs that share a few directions, as those of real layers do.
fn hessian() -> Vec<f32> {
    const DIRECTIONS: usize = 32;
    let directions = numbers(DIRECTIONS * COLUMNS, 1);
    let mut hessian = vec![0.0; COLUMNS * COLUMNS];
    for direction in directions.chunks_exact(COLUMNS) {
        for (row, a) in hessian.chunks_exact_mut(COLUMNS).zip(direction) {
            row.iter_mut().zip(direction).for_each(|(h, b)| *h += a * b);
        }
    }
    (0..COLUMNS).for_each(|i| hessian[i * (COLUMNS + 1)] += 1.0);
    hessian
}

fn gptq(criterion: &mut Criterion) {
    let (weights, hessian) = (numbers(ROWS * COLUMNS, 2), hessian());
    let factor = FeedbackFactor::new(hessian.clone(), COLUMNS, DAMPING).unwrap();
    let mut group = criterion.benchmark_group("gptq");
    group.sample_size(10);
    group.throughput(Throughput::Elements((COLUMNS * COLUMNS) as u64));
    group.bench_function("factor", |b| {
        b.iter(|| FeedbackFactor::new(black_box(hessian.clone()), COLUMNS, DAMPING).unwrap());
    });
    let drift = numbers(COLUMNS * COLUMNS, 3);
    group.bench_function("input correction", |b| {
        b.iter(|| InputCorrection::new(black_box(drift.clone()), &factor).unwrap());
    });
    group.throughput(Throughput::Elements(weights.len() as u64));
    for ty in [TensorType::Q4_0, TensorType::Q2_K, TensorType::Q4_K, TensorType::Q6_K, TensorType::IQ4_XS] {
        let mut bytes = vec![0; weights.len() / ty.block_len() * ty.block_bytes()];
        for effort in Effort::ALL {
            group.bench_function(format!("{ty}, {}", effort.name()), |b| {
                b.iter(|| {
                    quantize(
                        ty,
                        black_box(&weights),
                        None,
                        &factor,
                        effort.passes(),
                        Order::Natural,
                        &mut bytes,
                    )
                    .unwrap()
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, gptq);
criterion_main!(benches);
