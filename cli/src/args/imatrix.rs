//! `slmc imatrix`

use std::path::PathBuf;

use clap::Args;

use super::calibration::CalibrationArgs;

/// Write an importance matrix: which input columns of every layer matter, measured on calibration text
///
/// Runs MODEL, a checkpoint directory or GGUF file, block by block over the text and sums the squares of every linear layer's
/// inputs, the head's included. The file is llama.cpp's GGUF format: `llama-quantize --imatrix` takes it, and so does
/// `slmc quantize --imatrix`, which takes llama-imatrix's files too.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slmc imatrix MODEL --calibration train.txt --output model.imatrix.gguf
  slmc imatrix model-f16.gguf --calibration train.txt --all
  slmc quantize MODEL --bits 4 --imatrix model.imatrix.gguf
  llama-quantize --imatrix model.imatrix.gguf model-f16.gguf model-q4_k_m.gguf Q4_K_M")]
pub struct Imatrix {
    /// Checkpoint directory or GGUF file [default: `model` of slmc.toml]
    pub model: Option<PathBuf>,
    #[command(flatten)]
    pub calibration: CalibrationArgs,
    /// Run the whole text, as many samples as it has
    #[arg(long, conflicts_with = "samples")]
    pub all: bool,
    /// Where the model runs: cpu, ndarray or wgpu [default: cpu]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// File to write [default: MODEL.imatrix.gguf in the working directory]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}
