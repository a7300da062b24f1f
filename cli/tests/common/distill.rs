//! What the tests of `slmc distill` share.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use super::{slmc, stderr, stdout};

/// Short sequences, few of them, judged often.
pub const SHORT: [&str; 6] = ["--seq-len", "48", "--batch-size", "4", "--evaluate-every", "4"];

/// Runs `slmc distill` with the teacher `model` on a part of the bundled corpus.
pub fn distill(directory: &Path, more: &[&str]) -> Output {
    let first = ["distill", "--teacher", "model", "--text", "bundled:english"];
    slmc(directory, [&first[..], &SHORT, more].concat())
}

/// The object that a command printed, which must have succeeded.
pub fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", stderr(output));
    serde_json::from_str(&stdout(output)).unwrap()
}

/// The bytes of a checkpoint's weights.
pub fn weights(directory: &Path) -> Vec<u8> {
    std::fs::read(directory.join("model.safetensors")).unwrap()
}
