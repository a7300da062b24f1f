//! `slmc convert`

use std::path::PathBuf;

use clap::Args;

/// Write a checkpoint as an unquantized GGUF file
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slmc convert models/tiny
  slmc convert MODEL --dtype bf16 --output model-bf16.gguf")]
pub struct Convert {
    /// Checkpoint directory [default: `model` of slmc.toml]
    pub model: Option<PathBuf>,
    /// Type of the matrices: f16, bf16 or f32; vectors are always f32
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    pub dtype: String,
    /// File to write [default: MODEL-DTYPE.gguf in the working directory]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Name of the pre-tokenizer (tokenizer.ggml.pre), where it is not recognized by itself
    #[arg(long, value_name = "NAME")]
    pub pre: Option<String>,
}
