//! The golden checkpoints (see `golden/make_golden.py`) and a whole forward pass over them.

use std::io::Write;
use std::path::PathBuf;

use slmc_model::{
    Block, BurnDevice, Context, Head, HostView, KvPrecision, LinearObserver, NoObserver, WeightSource, embed,
    host,
};

/// A golden case: the checkpoint's directory, its tokens and the logits transformers computes for them.
pub struct Golden {
    pub dir: PathBuf,
    pub tokens: Vec<u32>,
    pub seq: usize,
    /// `[tokens, vocab]`.
    pub logits: Vec<f32>,
}

pub const CASES: [&str; 6] =
    ["llama", "llama3_tied_head_dim", "llama_linear_biases", "mistral_window", "qwen2", "qwen2_window"];

pub fn golden(name: &str) -> Golden {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let text = std::fs::read_to_string(dir.join("tokens.json")).unwrap();
    let rows: Vec<Vec<u32>> = serde_json::from_str(&text).unwrap();
    let bytes = std::fs::read(dir.join("logits.f32")).unwrap();
    let logits = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    Golden { dir, seq: rows[0].len(), tokens: rows.concat(), logits }
}

/// Logits `[tokens, vocab]`, the vocabulary in uneven slices.
pub fn logits(
    source: &dyn WeightSource,
    tokens: &[u32],
    seq: usize,
    device: &BurnDevice,
    precision: KvPrecision,
) -> Vec<f32> {
    logits_observed(source, tokens, seq, device, precision, &mut NoObserver)
}

pub fn logits_observed(
    source: &dyn WeightSource,
    tokens: &[u32],
    seq: usize,
    device: &BurnDevice,
    precision: KvPrecision,
    observer: &mut dyn LinearObserver,
) -> Vec<f32> {
    let config = source.config().clone();
    let context = Context::new(&config, seq, device, precision);
    let mut hidden = embed(source, tokens, seq, device).unwrap();
    for layer in 0..config.num_hidden_layers {
        hidden = Block::load(source, layer, device).unwrap().forward(hidden, &context, observer).unwrap();
    }
    let head = Head::load(source, device).unwrap();
    let normed = head.normalize(&hidden.reshape([tokens.len(), config.hidden_size]));
    let mut all = vec![0.0; tokens.len() * config.vocab_size];
    for start in (0..config.vocab_size).step_by(50) {
        let rows = start..config.vocab_size.min(start + 50);
        let slice = HostView::of(&head.load_rows(source, rows.clone()).unwrap().logits(&normed)).to_vec();
        for (token, values) in slice.chunks_exact(rows.len()).enumerate() {
            all[token * config.vocab_size + start..][..rows.len()].copy_from_slice(values);
        }
    }
    all
}

pub fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    assert!(!a.is_empty());
    // NaN must not pass for a small difference.
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, |x, y| if y <= x { x } else { y })
}

/// Evenly spread values without a random generator.
pub fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// The device, or `None` with a loud word if there is no adapter for it. `SLMC_REQUIRE_WGPU=1` makes that a
/// failure.
pub fn wgpu() -> Option<BurnDevice> {
    match slmc_model::Device::Wgpu.burn() {
        Ok(device) => Some(device),
        Err(error) => {
            assert!(
                std::env::var_os("SLMC_REQUIRE_WGPU").is_none_or(|value| value != "1"),
                "SLMC_REQUIRE_WGPU=1, but {error}"
            );
            // Not `eprintln`, which the test harness keeps to itself.
            let _ = writeln!(
                std::io::stderr(),
                "\n*** SKIPPED: no wgpu test was run, as no adapter was found: {error} ***\n"
            );
            None
        }
    }
}

/// Keeps `host` in use where only tensors are made.
pub fn tensor<const D: usize>(
    values: Vec<f32>,
    shape: [usize; D],
    device: &BurnDevice,
) -> slmc_model::Tensor<D> {
    host::tensor(values, shape, device)
}
