//! `slmc eval`

use std::path::PathBuf;

use clap::Args;

use super::measure::MeasureArgs;
use super::report::ReportArgs;
use super::tasks::TaskArgs;

/// Measure perplexity and accuracy on tasks, and with --base the KL divergence from the original model
///
/// Follows llama-perplexity's protocol: windows of --n-ctx tokens, beginning-of-sequence first where the model uses one, the
/// second half of each window scored; with --stride, that of Hugging Face's guide to perplexity. MODEL and BASE are checkpoint
/// directories or GGUF files; a GGUF file is computed as llama.cpp computes it on a CPU (activations rounded to the format that its
/// weights' type is multiplied with). They need the same tokenizer; heads padded to different sizes are compared over the rows that
/// both have. Ctrl-C ends with what was measured or answered so far, marked incomplete, and exit code 130.
///
/// With --tasks the models answer questions; prompts and scores are lm-evaluation-harness's. Without --text beside it nothing
/// else is measured. With --base, differences come with bounds, the exact McNemar test and the items that flipped.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slmc eval models/tiny --text heldout.txt
  slmc eval tiny-awq-q4_k_m.gguf --base models/tiny --text heldout.txt
  slmc eval models/tiny --text heldout.txt --n-ctx 1024 --stride 512
  slmc eval a.gguf --base b.gguf --text documents.jsonl --breakdown
  slmc eval a.gguf --base b.gguf --text heldout.txt --worst 3
  slmc eval a.gguf --base b.gguf --text heldout.txt --json
  slmc eval a.gguf --base-logits base.logits --text heldout.txt
  llama-perplexity -m b.gguf -f heldout.txt --kl-divergence-base base.kld
  slmc eval a.gguf --base-logits base.kld --text heldout.txt
  slmc eval a.gguf --base b.gguf --tasks bundled:smoke --flips
  slmc eval MODEL --tasks arc_easy.jsonl,hellaswag.jsonl --fewshot 5 --limit 1000
  slmc eval a.gguf --base models/tiny --report a-report")]
pub struct Eval {
    /// Checkpoint directory or GGUF file [default: `model` of slmc.toml]
    pub model: Option<PathBuf>,
    /// The original model to compare with (checkpoint directory or GGUF file)
    #[arg(long, value_name = "BASE")]
    pub base: Option<PathBuf>,
    /// What the original predicted, from a file of `slmc distill cache-logits --for-eval` or `llama-perplexity --kl-divergence-base`,
    /// in its place; same --text and --n-ctx. KL divergences are lower bounds where the former does not hold every token; from the
    /// latter they are computed as `llama-perplexity --kl-divergence` does
    #[arg(long, value_name = "FILE", conflicts_with_all = ["base", "stride", "worst"])]
    pub base_logits: Option<PathBuf>,
    /// Also print the figures by tokens of context and by document (they always are in --json)
    #[arg(long)]
    pub breakdown: bool,
    /// Show the N windows in which the model departs most from BASE: the worst place of each, what both expect there, and how both
    /// go on (each model is opened again for it) [default: 10 with --json and --base, else none]
    #[arg(long, value_name = "N")]
    pub worst: Option<u16>,
    /// Tokens of each continuation of --worst [default: 24]
    #[arg(long, value_name = "N")]
    pub continuation: Option<u16>,
    #[command(flatten)]
    pub measure: MeasureArgs,
    #[command(flatten)]
    pub report: ReportArgs,
    #[command(flatten)]
    pub tasks: TaskArgs,
    /// List the items that one model got right and the other did not
    #[arg(long, requires = "base", help_heading = "Tasks")]
    pub flips: bool,
}
