//! The walk over the bundled model's blocks, whole: elements are tokens.

use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use slmc_model::BurnDevice;
use slmc_pipeline::model_file::ModelFile;
use slmc_pipeline::progress::Silent;
use slmc_pipeline::walker::{Walk, run_block};

const SEQUENCES: usize = 16;
const SEQ_LEN: usize = 512;

fn walker(criterion: &mut Criterion) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny");
    let source = ModelFile::open(&path).unwrap().source().unwrap();
    let vocabulary = source.config().vocab_size;
    let seq_len = SEQ_LEN.min(source.config().max_position_embeddings);
    let token = |i: usize| (i.wrapping_mul(2_654_435_761) >> 8) as u32 % vocabulary as u32;
    let sequences: Vec<Vec<u32>> =
        (0..SEQUENCES).map(|s| (0..seq_len).map(|t| token(s * seq_len + t)).collect()).collect();
    let device = BurnDevice::flex();
    let mut group = criterion.benchmark_group("walker");
    group.sample_size(10);
    group.throughput(Throughput::Elements((SEQUENCES * seq_len) as u64));
    group.bench_function("tiny", |b| {
        b.iter(|| {
            Walk::new(source.as_ref(), &sequences, &device, &Silent)
                .blocks(|_, block, hidden, context| run_block(block, hidden, context))
                .unwrap()
        });
    });
    group.finish();
}

criterion_group!(benches, walker);
criterion_main!(benches);
