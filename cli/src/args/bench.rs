//! `slmc bench`

use std::path::PathBuf;

use clap::Args;

use super::report::ReportArgs;

/// Time a model: first token, latency per token, tokens a second, memory; beside its original with --base
///
/// Every model runs in a process of its own on the same prompt, from the bundled text, and writes the same number of tokens; the
/// runs of the two alternate. Times are medians over the repetitions with their smallest and largest; the latency per token is also
/// given as percentiles over all tokens. Peak memory counts mapped file pages. MODEL and BASE are checkpoint directories or GGUF
/// files; llama.cpp runs GGUF files only.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slmc bench out.gguf --base models/tiny
  slmc bench MODEL --prompt-tokens 512 --tokens 32 --repetitions 10 --json
  slmc bench q4_k_m.gguf --base f16.gguf --engine llama-cpp   on llama.cpp, where it is built in")]
pub struct Bench {
    /// Checkpoint directory or GGUF file [default: `model` of slmc.toml]
    pub model: Option<PathBuf>,
    /// The original model to time beside it (checkpoint directory or GGUF file)
    #[arg(long, value_name = "BASE")]
    pub base: Option<PathBuf>,
    /// What runs the models: slmc or llama-cpp [default: slmc]
    #[arg(long, value_name = "ENGINE")]
    pub engine: Option<String>,
    #[command(flatten)]
    pub amount: AmountArgs,
    #[command(flatten)]
    pub report: ReportArgs,
    /// Where slmc's own decoder runs: cpu, ndarray or wgpu [default: cpu]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
}

/// How much is timed.
#[derive(Debug, Args)]
pub struct AmountArgs {
    /// Tokens of the prompt
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    pub prompt_tokens: u32,
    /// Tokens to write; the first one's time is the prompt's
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(2..))]
    pub tokens: u32,
    /// Repetitions of each model
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub repetitions: u32,
    /// Repetitions before those, which do not count
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub warmup: u32,
}

/// One model in a process of its own, told through pipes by `slmc bench` when to run
#[derive(Debug, Args)]
pub struct BenchWorker {}
