//! `slmc convert`

use std::path::PathBuf;

use clap::Args;

/// Write a checkpoint as an unquantized GGUF file
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slmc convert models/tiny
  slmc convert MODEL --dtype bf16 --output model-bf16.gguf
  slmc convert MODEL --modelfile    then: ollama create NAME -f MODEL-f16.Modelfile")]
pub struct Convert {
    /// Checkpoint directory [default: `model` of slmc.toml]
    pub model: Option<PathBuf>,
    /// Of a model with a vision part, take the text model and leave the rest out (Gemma 3, Mistral 3, Qwen 2 and 2.5 VL)
    #[arg(long)]
    pub text_only: bool,
    /// Type of the matrices: f16, bf16 or f32; vectors are always f32
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    pub dtype: String,
    /// File to write [default: MODEL-DTYPE.gguf in the working directory]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Write an Ollama Modelfile beside the file, with the ending .Modelfile
    #[arg(long)]
    pub modelfile: bool,
    /// Name of the pre-tokenizer (tokenizer.ggml.pre), where it is not recognized by itself
    #[arg(long, value_name = "NAME")]
    pub pre: Option<String>,
}
