//! `slmc inspect`

use std::path::PathBuf;

use clap::Args;

/// Show a model's architecture, parameters, tensors and sizes
///
/// MODEL is a Hugging Face checkpoint directory or a GGUF file.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slmc inspect models/tiny
  slmc inspect tiny-awq-q4_k_m.gguf --tensors
  slmc inspect MODEL --json | jq .parameters")]
pub struct Inspect {
    /// Checkpoint directory or GGUF file [default: `model` of slmc.toml]
    pub model: Option<PathBuf>,
    /// List every tensor with its type, shape and bytes
    #[arg(long)]
    pub tensors: bool,
}
