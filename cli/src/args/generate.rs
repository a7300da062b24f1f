//! `slmc generate`

use std::path::PathBuf;

use clap::Args;

/// Write on from a prompt, for a look at what a model says
///
/// MODEL and BASE are checkpoint directories or GGUF files. Without a temperature the most likely token is taken each time, and
/// the same model writes the same text. With --base the original continues the prompt first, then the model. The text ends at a
/// token that ends texts, or after --max-tokens.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slmc generate models/tiny --prompt 'Once upon a time'
  slmc generate out.gguf --base MODEL --prompt-file prompt.txt --max-tokens 64
  slmc generate MODEL --prompt 'Name three rivers.' --chat --temperature 0.7 --top-p 0.9 --seed 1
  slmc generate MODEL --prompt 'The capital of France is' --json | jq -r .text")]
pub struct Generate {
    /// Checkpoint directory or GGUF file [default: `model` of slmc.toml]
    pub model: Option<PathBuf>,
    /// The original model, to continue the same prompt first
    #[arg(long, value_name = "BASE")]
    pub base: Option<PathBuf>,
    /// The text to continue; the spelling of a special token means the token
    #[arg(
        long,
        value_name = "TEXT",
        required_unless_present = "prompt_file",
        conflicts_with = "prompt_file"
    )]
    pub prompt: Option<String>,
    /// A file with the text to continue, without its last line break
    #[arg(long, value_name = "FILE")]
    pub prompt_file: Option<PathBuf>,
    /// Set the prompt as a user's message into the model's chat template
    #[arg(long)]
    pub chat: bool,
    /// Most tokens to write
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tokens: u32,
    /// 0 takes the most likely token; higher values draw more freely
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    pub temperature: f32,
    /// Draw from so many of the most likely tokens only
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub top_k: Option<u32>,
    /// Draw from the fewest most likely tokens that together have this probability
    #[arg(long, value_name = "P")]
    pub top_p: Option<f32>,
    /// Draw from tokens at least this share as likely as the most likely one
    #[arg(long, value_name = "P")]
    pub min_p: Option<f32>,
    /// Above 1, makes tokens that occurred less likely
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    pub repeat_penalty: f32,
    /// The same seed draws the same text
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Where the model runs: cpu, ndarray or wgpu [default: cpu]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
}
