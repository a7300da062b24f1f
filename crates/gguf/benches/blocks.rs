//! Encoding and decoding of every tensor type, on one thread: bytes are those of the f32 values.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use slmc_gguf::TensorType;
use slmc_gguf::blocks::{decode, encode};

/// Rows of weights: few enough to stay in the second-level cache.
const COLUMNS: usize = 2048;
const ROWS: usize = 16;

/// Weights that spread like a trained layer's: the sum of a few uniform numbers.
fn weights(n: usize) -> Vec<f32> {
    let mut state = 1u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..n).map(|_| 0.04 * (uniform() + uniform() + uniform() + uniform())).collect()
}

fn blocks(criterion: &mut Criterion) {
    let values = weights(ROWS * COLUMNS);
    let importance: Vec<f32> = weights(COLUMNS).iter().map(|w| 0.01 + w * w).collect();
    let mut group = criterion.benchmark_group("blocks");
    group.throughput(Throughput::Bytes(size_of_val(values.as_slice()) as u64));
    for ty in TensorType::ALL {
        let mut bytes = vec![0; values.len() / ty.block_len() * ty.block_bytes()];
        for (how, importance) in [("", None), (", importance", Some(importance.as_slice()))] {
            group.bench_function(format!("encode {ty}{how}"), |b| {
                b.iter(|| encode(ty, black_box(&values), COLUMNS, importance, &mut bytes).unwrap());
            });
        }
        let mut decoded = vec![0.0; values.len()];
        group.bench_function(format!("decode {ty}"), |b| {
            b.iter(|| decode(ty, black_box(&bytes), &mut decoded).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, blocks);
criterion_main!(benches);
