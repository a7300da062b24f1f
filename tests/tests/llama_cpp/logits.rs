//! llama.cpp's logits of our files are ours.

use slmc_model::{Device, GgufSource, WeightSource};
use slmc_pipeline::jobs::quantize::Mix;

use crate::engine::Engine;
use crate::forward;
use crate::models::{Family, quantize};
use crate::tokenizers_to_carry::tiny;

/// Enough positions for RoPE scaling to matter.
const TOKENS: usize = 96;

/// Root mean square of the difference between llama.cpp's logits of the file and ours, in parts of the logits' own.
fn difference(path: &std::path::Path) -> f64 {
    let source = GgufSource::open(path).unwrap();
    let vocab = source.config().vocab_size as u32;
    let tokens: Vec<u32> = (0..TOKENS as u32).map(|i| (i * 7919 + 13) % vocab).collect();
    let device = Device::Cpu.burn().unwrap();
    let ours = forward::logits(&source, &tokens, TOKENS, &device, source.kv_precision());
    let theirs = Engine::load(path).logits(&tokens);
    assert_eq!(ours.len(), theirs.len());
    let square =
        |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v) * f64::from(v)).sum::<f64>();
    let distance = square(&mut ours.iter().zip(&theirs).map(|(a, b)| a - b));
    (distance / square(&mut theirs.iter().copied())).sqrt()
}

#[test]
fn every_family_scores_as_ours() {
    let dir = tempfile::tempdir().unwrap();
    for family in Family::ALL {
        let model = dir.path().join(format!("{family:?}"));
        family.write(&model, &tiny(), &serde_json::json!({}));
        let difference = difference(&quantize(&model, Mix::F32, None));
        assert!(difference < 1e-3, "{family:?}: {difference:e}");
    }
}

#[test]
fn every_mix_scores_as_ours() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model");
    Family::Qwen2.write(&model, &tiny(), &serde_json::json!({}));
    for mix in Mix::ALL {
        let difference = difference(&quantize(&model, mix, None));
        println!("{mix}: {difference:e}");
        assert!(difference < 5e-3, "{mix}: {difference:e}");
    }
}
