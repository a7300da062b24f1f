//! Speed of a block on the cpu device, with random weights of a real model's shape: the whole block, then each of
//! its operations by itself.
//!
//! usage: forward_speed [small|1b] [sequences]
//!
//! Rates are per second of wall time and, since a shared machine makes that noisy, per second of processor time
//! times the number of threads (Linux only). Minimum of several runs.

use std::ops::Range;
use std::time::Instant;

use slmc_gguf::activation::ActivationFormat;
use slmc_model::arch::Activation;
use slmc_model::ops::{self, AttentionShape, Matrix, RopeTables};
use slmc_model::{
    ArchSpec, Block, BurnDevice, Context, Device, KvPrecision, ModelConfig, ModelError, NoObserver,
    RopeScaling, Rotation, Tensor, TensorId, Weight, WeightSource, host,
};

const SEQ: usize = 512;

/// Weights of any shape from a counter.
struct Random(ModelConfig);

fn noise(len: usize) -> Vec<f32> {
    (0..len as u32)
        .map(|i| (i.wrapping_mul(0x9E37_79B9) >> 8) as f32 / (1 << 24) as f32 - 0.5)
        .map(|x| x * 0.1)
        .collect()
}

impl WeightSource for Random {
    fn config(&self) -> &ModelConfig {
        &self.0
    }

    fn load(&self, id: TensorId) -> Result<Weight, ModelError> {
        self.load_rows(id, 0..self.0.shape(id.role)[0])
    }

    fn load_rows(&self, id: TensorId, rows: Range<usize>) -> Result<Weight, ModelError> {
        let mut shape = self.0.shape(id.role);
        shape[0] = rows.len();
        Ok(Weight { values: noise(shape.iter().product()), shape, activation: ActivationFormat::F32 })
    }

    fn release(&self, _: TensorId) {}

    fn kv_precision(&self) -> KvPrecision {
        KvPrecision::F32
    }
}

fn config(name: &str) -> ModelConfig {
    // hidden, inner, heads, key heads, vocabulary
    let [hidden_size, intermediate_size, num_attention_heads, num_key_value_heads, vocab_size] = match name {
        "small" => [512, 1024, 8, 4, 4096],
        "1b" => [2048, 8192, 32, 8, 128_256],
        other => panic!("unknown shape {other}; expected small or 1b"),
    };
    ModelConfig {
        arch: ArchSpec::by_model_type("llama").expect("a family of its own"),
        vocab_size,
        hidden_size,
        intermediate_size,
        num_hidden_layers: 1,
        num_attention_heads,
        num_key_value_heads,
        head_dim: 64,
        activation: Activation::Silu,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::Default,
        local_rope_theta: 10_000.0,
        rotary_dim: 64,
        rotation: vec![Rotation::Global],
        max_position_embeddings: SEQ,
        sliding_window: vec![None],
        attention_scale: 0.125,
        attention_softcap: None,
        embedding_scale: 1.0,
        residual_scale: 1.0,
        logits: Default::default(),
        tie_word_embeddings: true,
        qkv_bias: false,
        output_bias: false,
        mlp_bias: false,
    }
}

/// Seconds of processor time this process has used, all threads together.
fn processor_seconds() -> f64 {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return f64::NAN };
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = |field: usize| after_name.split_whitespace().nth(field).and_then(|t| t.parse::<f64>().ok());
    // utime and stime, in hundredths of a second.
    (ticks(11).unwrap_or(f64::NAN) + ticks(12).unwrap_or(f64::NAN)) / 100.0
}

/// Least (wall seconds, processor seconds / threads) of one call; each measurement repeats it for half a second.
fn time(mut call: impl FnMut()) -> (f64, f64) {
    let mut best = (f64::MAX, f64::MAX);
    for _ in 0..5 {
        let (wall, processor) = (Instant::now(), processor_seconds());
        let mut calls = 0;
        while processor_seconds() - processor < 0.5 || calls == 0 {
            call();
            calls += 1;
        }
        let calls = f64::from(calls);
        let threads = rayon::current_num_threads() as f64;
        best.0 = best.0.min(wall.elapsed().as_secs_f64() / calls);
        best.1 = best.1.min((processor_seconds() - processor) / threads / calls);
    }
    best
}

fn main() {
    let name = std::env::args().nth(1).unwrap_or_else(|| "small".to_owned());
    let sequences: usize = std::env::args().nth(2).map_or(8, |text| text.parse().expect("a number"));
    let (config, device) = (config(&name), Device::Cpu.burn().expect("the cpu is always there"));
    let tokens = sequences * SEQ;
    println!("{name}: {sequences} sequences of {SEQ}, {} threads", rayon::current_num_threads());

    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let (query, key_value) = (config.query_size(), config.key_value_size());
    let linear = 2.0 * hidden as f64 * (2 * query + 2 * key_value + 3 * inner) as f64;
    let scores = 4.0 * query as f64 * (SEQ + 1) as f64 / 2.0;

    let block = Block::load(&Random(config.clone()), 0, &device).expect("random weights");
    let context = Context::new(&config, SEQ, &device, KvPrecision::F32);
    let state = || host::tensor(noise(tokens * hidden), [sequences, SEQ, hidden], &device);
    let mut residual = Some(state());
    let whole = time(|| {
        let next = block.forward(residual.take().unwrap_or_else(state), &context, &mut NoObserver);
        residual = Some(next.expect("nothing observes") * 0.5);
    });
    let report = |what: &str, (wall, processor): (f64, f64), flops: f64| {
        let rate = |seconds: f64| flops * tokens as f64 / seconds / 1e9;
        println!(
            "{what:<28} {:9.2} µs/token  {:6.0} GFLOP/s   by processor time {:9.2} µs/token  {:6.0} GFLOP/s  {:5.1} %",
            wall / tokens as f64 * 1e6,
            rate(wall),
            processor / tokens as f64 * 1e6,
            rate(processor),
            100.0 * processor / whole.1,
        );
    };
    report("block", whole, linear + scores);
    operations(&config, sequences, &device, &report);
    let rows = config.vocab_size.min(8192);
    let head = Matrix::new(noise(rows * hidden), [rows, hidden], &device);
    let x: Tensor<2> = host::tensor(noise(tokens * hidden), [tokens, hidden], &device);
    let flops = 2.0 * (rows * hidden) as f64;
    report(&format!("head, {rows} rows"), time(|| drop(ops::linear(&x, &head, None))), flops);
}

/// Each operation of a block by itself.
fn operations(
    config: &ModelConfig,
    sequences: usize,
    device: &BurnDevice,
    report: &impl Fn(&str, (f64, f64), f64),
) {
    let tokens = sequences * SEQ;
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let (query, key_value) = (config.query_size(), config.key_value_size());
    let rows = |width: usize| -> Tensor<2> { host::tensor(noise(tokens * width), [tokens, width], device) };
    let matrix = |d_out, d_in| Matrix::new(noise(d_out * d_in), [d_out, d_in], device);
    let x = rows(hidden);
    let norm = host::tensor(vec![1.0; hidden], [hidden], device);
    report("2 norms", time(|| (0..2).for_each(|_| drop(ops::rms_norm(&x, &norm, 1e-5)))), 0.0);
    let (q, k) = (matrix(query, hidden), matrix(key_value, hidden));
    let projections = || {
        drop(ops::linear(&x, &q, None));
        (0..2).for_each(|_| drop(ops::linear(&x, &k, None)));
    };
    report("query, key, value", time(projections), 2.0 * hidden as f64 * (query + 2 * key_value) as f64);
    let tables = RopeTables::new(config, Rotation::Global, SEQ, device).expect("llama rotates");
    let (mut queries, mut keys) = (Some(rows(query)), Some(rows(key_value)));
    let turn = || {
        queries = queries.take().map(|x| ops::rope(x, 0..SEQ, &tables));
        keys = keys.take().map(|x| ops::rope(x, 0..SEQ, &tables));
    };
    report("rotation", time(turn), 0.0);
    let shape = AttentionShape {
        seq: SEQ,
        heads: config.num_attention_heads,
        key_value_heads: config.num_key_value_heads,
        head_dim: config.head_dim,
        window: None,
        scale: config.attention_scale as f32,
        softcap: None,
    };
    let (queries, keys, values) = (rows(query), rows(key_value), rows(key_value));
    let flops = 4.0 * query as f64 * (SEQ + 1) as f64 / 2.0;
    report("attention", time(|| drop(ops::attention(&queries, &keys, &values, shape))), flops);
    let output = matrix(hidden, query);
    let mut stream = Some(rows(hidden));
    let onto = || stream = stream.take().map(|y| ops::linear_onto(y, &queries, &output, None));
    report("output, onto the stream", time(onto), 2.0 * (hidden * query) as f64);
    let (gate, up) = (matrix(inner, hidden), matrix(inner, hidden));
    let gated = || drop(ops::gated(&x, &x, (&gate, None), (&up, None), config.activation));
    report("gate, up, activation", time(gated), 4.0 * (hidden * inner) as f64);
    let (down, activated) = (matrix(hidden, inner), rows(inner));
    let mut stream = Some(rows(hidden));
    let onto = || stream = stream.take().map(|y| ops::linear_onto(y, &activated, &down, None));
    report("down, onto the stream", time(onto), 2.0 * (hidden * inner) as f64);
}
