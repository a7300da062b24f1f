//! Checkpoints out of which parts were cut, read by transformers: every tensor has its place, and the logits are ours. And the text model
//! of one that sees, as transformers writes it.
//!
//! `SLMC_PYTHON=PYTHON cargo test --workspace --test transformers`, with a Python that has torch and transformers; without it, it says so
//! and checks nothing.

#[path = "../families/models.rs"]
mod models;

#[path = "../../../crates/model/tests/decoder/forward.rs"]
mod forward;
#[path = "../../../crates/gguf/tests/tokenizers_to_carry/mod.rs"]
mod tokenizers_to_carry;

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use slmc_model::{CheckpointSource, Device, WeightSource};

use crate::models::{Family, cut, cuts};
use crate::tokenizers_to_carry::tiny;

const TOKENS: usize = 96;

#[test]
fn transformers_scores_what_was_cut_as_we_do() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut made = Vec::new();
    for family in Family::ALL {
        for (number, (asked, compensates)) in cuts(family).into_iter().enumerate() {
            let model = dir.path().join(format!("{family:?}-{number}"));
            family.write(&model, &tiny(), &serde_json::json!({}));
            made.push((format!("{family:?}, {asked:?}"), cut(&model, asked, compensates)));
        }
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transformers/logits.py");
    let mut command = Command::new(python);
    command.arg(script).arg(TOKENS.to_string()).args(made.iter().map(|(_, path)| path));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for (what, path) in made {
        compare(&what, &path, &path.join("logits.f32"), 1e-3);
    }
}

#[test]
fn the_text_model_of_one_that_sees_scores_as_the_whole_does_without_an_image() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (text, whole) = (dir.path().join("text"), dir.path().join("whole"));
    Family::Gemma3.write(&text, &tiny(), &serde_json::json!({}));
    std::fs::create_dir(&whole).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transformers/whole.py");
    let output =
        Command::new(python).arg(script).arg(TOKENS.to_string()).args([&text, &whole]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for layout in ["older", "newer"] {
        compare(layout, &whole.join(layout), &whole.join("logits.f32"), 1e-4);
    }
}

fn python() -> Option<OsString> {
    let python = std::env::var_os("SLMC_PYTHON");
    if python.is_none() {
        eprintln!("NOT TESTED against transformers: SLMC_PYTHON names no Python with torch and transformers");
    }
    python
}

/// Holds a checkpoint's logits to those that transformers wrote.
fn compare(what: &str, path: &Path, theirs: &Path, most: f32) {
    let theirs = std::fs::read(theirs).unwrap();
    let theirs: Vec<f32> = theirs.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let source = CheckpointSource::open(path).unwrap();
    let vocab = source.config().vocab_size;
    let tokens: Vec<u32> = (0..TOKENS).map(|i| ((i * 7919 + 13) % vocab) as u32).collect();
    let device = Device::Cpu.burn().unwrap();
    let ours = forward::logits(&source, &tokens, TOKENS, &device, source.kv_precision());
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let worst = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("{what}: {worst:.1e}");
    assert!(worst < most, "{what}: {worst:e}");
}
