//! `slmc gate`

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::measure::MeasureArgs;
use super::report::ReportArgs;
use super::tasks::TaskArgs;

/// Hold a compressed model against limits, and fail the job when it lost too much
///
/// Measures MODEL beside BASE on the same text and compares each value's bounds with its limit: it has passed when even the worse
/// bound keeps the limit, is a regression when even the better one breaks it, and cannot be decided between. Windows, or
/// the items of tasks, are resampled for the bounds (studentized bootstrap, each one-sided at --confidence).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slmc gate out.gguf --base models/tiny --max-kl 0.01
  slmc gate out.gguf --base MODEL --text heldout.txt --max-ppl-increase 2% --min-top1 95% --max-size 700MB
  slmc gate out.gguf --base MODEL --tasks bundled:smoke --min-accuracy-ratio 98%
  slmc gate out.gguf --base MODEL --max-latency-increase 10%
  slmc gate out.gguf --base-logits base.logits --text heldout.txt --max-kl 0.01
  slmc gate out.gguf --base MODEL --save-baseline gate.json
  slmc gate new.gguf --base MODEL --baseline gate.json
  slmc gate out.gguf --base MODEL --tasks arc.jsonl --save-baseline gate.json
  slmc gate out.gguf --max-kl 0.01 --markdown \"$GITHUB_STEP_SUMMARY\" --junit gate.xml --report gate
  slmc gate out.gguf                            base and limits from [gate] of slmc.toml
Exit codes: 0 passed, 3 regression, 4 cannot decide, 1 failed, 2 wrong usage.")]
pub struct Gate {
    /// Compressed model (checkpoint directory or GGUF file) [default: `model` of slmc.toml's gate section]
    pub model: Option<PathBuf>,
    /// The original model (checkpoint directory or GGUF file) [default: `model` of slmc.toml]
    #[arg(long, value_name = "BASE")]
    pub base: Option<PathBuf>,
    /// What the original predicted, from a file of `slmc distill cache-logits --for-eval` or `llama-perplexity --kl-divergence-base`:
    /// losses on text are measured against it, without running BASE; same --text and --n-ctx. KL divergences are lower bounds where
    /// the former does not hold every token: they can break --max-kl, and not keep it
    #[arg(long, value_name = "FILE", conflicts_with = "stride")]
    pub base_logits: Option<PathBuf>,
    /// Most mean KL divergence from the original, in nats per token
    #[arg(long, value_name = "KL")]
    pub max_kl: Option<f64>,
    /// Largest increase of perplexity: 2% or 0.02
    #[arg(long, value_name = "SHARE")]
    pub max_ppl_increase: Option<String>,
    /// Least share of tokens with the same most likely token: 95% or 0.95
    #[arg(long, value_name = "SHARE")]
    pub min_top1: Option<String>,
    /// Least accuracy on --tasks, as a share of the original's: 98% or 0.98
    #[arg(long, value_name = "SHARE")]
    pub min_accuracy_ratio: Option<String>,
    /// Most bytes of the weight files: 700MB, 1.5GiB or a number of bytes
    #[arg(long, value_name = "SIZE")]
    pub max_size: Option<String>,
    /// Largest increase of the median time a generated token takes: 10% or 0.1. Both models run in turn on slmc's own decoder
    #[arg(long, value_name = "SHARE")]
    pub max_latency_increase: Option<String>,
    /// Repetitions of each model for --max-latency-increase
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub latency_repetitions: u32,
    /// Losses of a model that was accepted, of --save-baseline: compare with it window by window, and item by item of its tasks
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
    /// By how much the KL divergence may exceed the baseline's: 10% or 0.1 [default: 10%]
    #[arg(long, value_name = "SHARE")]
    pub max_kl_growth: Option<String>,
    /// Least accuracy on the baseline's tasks, as a share of its own, item by item: 98% or 0.98 [default: 98%]
    #[arg(long, value_name = "SHARE")]
    pub min_baseline_accuracy: Option<String>,
    /// Keep this model's losses, and with --tasks which items it got right, as small JSON for a repository
    #[arg(long, value_name = "FILE")]
    pub save_baseline: Option<PathBuf>,
    /// Of each bound of what was measured, above 0.5 and below 1 [default: 0.95]
    #[arg(long, value_name = "SHARE")]
    pub confidence: Option<f64>,
    /// Write the outcome as Markdown for a pull-request comment; the file of $GITHUB_STEP_SUMMARY is appended to, any other replaced
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// Write the outcome as JUnit XML: a test case a limit; a regression is a failure, what cannot be decided an error
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Print the outcome as GitHub annotations on standard error: auto (where GITHUB_ACTIONS is true), always or never
    #[arg(long, value_name = "WHEN", default_value = "auto", default_missing_value = "always", num_args = 0..=1,
          require_equals = true)]
    pub annotations: When,
    #[command(flatten)]
    pub measure: MeasureArgs,
    #[command(flatten)]
    pub report: ReportArgs,
    #[command(flatten)]
    pub tasks: TaskArgs,
}

/// When something is done that only some surroundings want.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// Where the surroundings want it.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}
