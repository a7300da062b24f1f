//! The golden checkpoints (see `golden/make_golden.py`) and the devices to run them on.

use std::io::Write;
use std::path::PathBuf;

use slmc_model::{BurnDevice, host};

pub use super::forward::{largest_difference, logits, logits_observed, noise};

/// A golden case: the checkpoint's directory, its tokens and the logits transformers computes for them.
pub struct Golden {
    pub dir: PathBuf,
    pub tokens: Vec<u32>,
    pub seq: usize,
    /// `[tokens, vocab]`.
    pub logits: Vec<f32>,
}

pub const CASES: [&str; 20] = [
    "llama",
    "llama3_tied_head_dim",
    "llama_linear_biases",
    "mistral_window",
    "qwen2",
    "qwen2_window",
    "ministral_window",
    "qwen3",
    "phi3",
    "phi3_window",
    "phi3_long_rope",
    "phi3_short_rope",
    "gemma2",
    "gemma2_scalar",
    "gemma3",
    "smollm3",
    "granite",
    "olmo2",
    "exaone4",
    "exaone4_window",
];

pub fn golden(name: &str) -> Golden {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let text = std::fs::read_to_string(dir.join("tokens.json")).unwrap();
    let rows: Vec<Vec<u32>> = serde_json::from_str(&text).unwrap();
    let bytes = std::fs::read(dir.join("logits.f32")).unwrap();
    let logits = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    Golden { dir, seq: rows[0].len(), tokens: rows.concat(), logits }
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
