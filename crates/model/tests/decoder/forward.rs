//! A whole forward pass, and numbers to run it on and to compare.

#![allow(dead_code)] // not every test program uses everything

use slmc_model::{
    Block, BurnDevice, Context, Head, HostView, KvPrecision, LinearObserver, NoObserver, WeightSource, embed,
};

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
