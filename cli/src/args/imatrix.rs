//! `slmc imatrix`

use std::path::PathBuf;

use clap::Args;
use slmc_pipeline::jobs::quantize::TextSource;

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
    /// Calibration text (.txt), JSON lines (.jsonl with `text` or `messages`) or parts of the bundled corpus
    /// (bundled:english,korean,code,mathematics,dialogue); repeatable [default: bundled]
    #[arg(long, value_name = "FILE")]
    pub calibration: Vec<TextSource>,
    /// Calibration samples [default: 128]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub samples: Option<u32>,
    /// Run the whole text, as many samples as it has
    #[arg(long, conflicts_with = "samples")]
    pub all: bool,
    /// Tokens a calibration sample [default: 512]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    pub seq_len: Option<u32>,
    /// Seed that chooses the calibration samples [default: 0]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Where the model runs: cpu, ndarray or wgpu [default: cpu]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// File to write [default: MODEL.imatrix.gguf in the working directory]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}
