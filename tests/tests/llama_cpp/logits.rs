//! llama.cpp's logits of our files are ours.

use std::path::Path;

use slmc_model::{Device, GgufSource, WeightSource};
use slmc_pipeline::jobs::quantize::Mix;

use crate::engine::Engine;
use crate::forward;
use crate::models::{Family, cut, cuts, quantize};
use crate::tokenizers_to_carry::tiny;

/// Enough positions for RoPE scaling to matter.
const TOKENS: usize = 96;

/// How far llama.cpp's logits of a file are from ours.
struct Difference {
    /// Of the token at which they are nearest.
    nearest: f64,
    /// Over all tokens.
    overall: f64,
}

/// Root mean squares, in parts of the logits' own.
fn difference(path: &Path) -> Difference {
    let source = GgufSource::open(path).unwrap();
    let vocab = source.config().vocab_size;
    let tokens: Vec<u32> = (0..TOKENS).map(|i| ((i * 7919 + 13) % vocab) as u32).collect();
    let device = Device::Cpu.burn().unwrap();
    let ours = forward::logits(&source, &tokens, TOKENS, &device, source.kv_precision());
    let theirs = Engine::load(path).logits(&tokens);
    assert_eq!(ours.len(), theirs.len());
    let relative = |ours: &[f32], theirs: &[f32]| {
        let distance: f64 = ours.iter().zip(theirs).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        (distance / theirs.iter().map(|b| f64::from(*b).powi(2)).sum::<f64>()).sqrt()
    };
    let tokens = ours.chunks_exact(vocab).zip(theirs.chunks_exact(vocab));
    Difference {
        nearest: tokens.map(|(ours, theirs)| relative(ours, theirs)).fold(f64::INFINITY, f64::min),
        overall: relative(&ours, &theirs),
    }
}

/// Keys and values alone are rounded, to half precision; llama.cpp also looks Gemma's GELU up in a table of such numbers.
// What llama.cpp makes of a vocabulary depends on whether the name of the model says phi3.
fn limit(family: Family) -> f64 {
    if family.is_gemma() { 1e-2 } else { 1e-3 }
}

#[test]
fn every_family_scores_as_ours() {
    let dir = tempfile::tempdir().unwrap();
    for family in Family::ALL {
        let model = dir.path().join(format!("model-{}", family as usize));
        family.write(&model, &tiny(), &serde_json::json!({}));
        // Of F16, llama.cpp rounds activations to half precision, too.
        for (mix, limit) in [(Mix::F32, limit(family)), (Mix::F16, 2e-2)] {
            let overall = difference(&quantize(&model, mix, None)).overall;
            println!("{family:?} in {mix}: {overall:.1e}");
            assert!(overall < limit, "{family:?} in {mix}: {overall:e}");
        }
    }
}

#[test]
fn every_family_with_parts_cut_out_scores_as_ours() {
    let dir = tempfile::tempdir().unwrap();
    for family in Family::ALL {
        for (number, (asked, compensates)) in cuts(family).into_iter().enumerate() {
            // not by the name: llama.cpp has a rule of its own for vocabularies of models called phi3
            let model = dir.path().join(format!("model-{}-{number}", family as usize));
            family.write(&model, &tiny(), &serde_json::json!({}));
            let overall = difference(&quantize(&cut(&model, asked, compensates), Mix::F32, None)).overall;
            assert!(overall < limit(family), "{family:?}, {asked:?}: {overall:e}");
        }
    }
}

/// Activations are rounded before they are multiplied with quantized weights, and what differs in the last bit now and then
/// rounds to the other side, which random weights make much of. Up to the first such token both compute the same.
#[test]
fn every_mix_scores_as_ours() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model");
    Family::Qwen2.write(&model, &tiny(), &serde_json::json!({}));
    for mix in Mix::ALL {
        let Difference { nearest, overall } = difference(&quantize(&model, mix, None));
        println!("{mix}: nearest {nearest:.1e}, overall {overall:.1e}");
        assert!(overall < 4e-2, "{mix}: {overall:e}");
        // llama.cpp multiplies the minima of these two with sums of activations kept in half precision.
        if ![Mix::Q4_1, Mix::Q5_1].contains(&mix) {
            assert!(nearest < 1e-5, "{mix}: {nearest:e}");
        }
    }
}
