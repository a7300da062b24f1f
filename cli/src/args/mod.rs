//! What a user may type. Values stay as typed here; `resolve` joins them with `slmc.toml` and the defaults.

pub mod bench;
pub mod calibration;
pub mod compare;
pub mod convert;
pub mod distill;
pub mod eval;
pub mod gate;
pub mod generate;
pub mod imatrix;
pub mod inspect;
pub mod measure;
pub mod prune;
pub mod quantize;
pub mod report;
pub mod run;
pub mod structured;
pub mod tasks;

use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Makes small language models smaller: a Hugging Face checkpoint in, a calibrated GGUF file out, the loss measured.
#[derive(Debug, Parser)]
#[command(name = "slmc", version, styles = STYLES, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "\
Examples:
  slmc inspect models/tiny                      what a checkpoint or GGUF file holds
  slmc quantize --method awq --bits 4           the model of slmc.toml to a 4-bit GGUF file
  slmc quantize MODEL --type q5_k_m --dry-run   every tensor's type and the exact file size, nothing written
  slmc convert MODEL --dtype f16                an unquantized GGUF file
  slmc imatrix MODEL --calibration t.txt        an importance matrix, for llama-quantize and slmc quantize
  slmc prune MODEL --sparsity 0.5               half of the weights zero, the others solved again
  slmc distill --teacher MODEL --student MODEL-pruned --text t.txt   gives back what pruning took
  slmc eval out.gguf --base MODEL --text t.txt  perplexity, and KL divergence from the original
  slmc eval out.gguf --tasks bundled:smoke      accuracy on questions with right answers
  slmc gate out.gguf --base MODEL --max-kl 0.01 fails the job when more was lost
  slmc generate out.gguf --prompt 'Once'        a look at what it writes
  slmc bench out.gguf --base MODEL              how fast it is beside the original
  slmc compare REPORT REPORT                    runs of --report side by side
  slmc run recipe.toml                          several of these as one job that can be interrupted

Settings that stay the same can stand in slmc.toml in the working directory; flags win over it.
Exit codes: 0 done, 1 failed, 2 wrong usage; gate: 3 regression, 4 cannot decide.")]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options every command understands.
#[derive(Debug, Args)]
pub struct Global {
    /// Settings file [default: slmc.toml in the working directory, if there is one]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub config: Option<PathBuf>,
    /// Worker threads [default: all cores]
    #[arg(long, global = true, value_name = "N", help_heading = "Global options",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Print one JSON object on standard output instead of a table
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// No progress bars and no notes, only results and errors
    #[arg(long, short, global = true, help_heading = "Global options")]
    pub quiet: bool,
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant)] // there is one of it in a process
pub enum Command {
    Inspect(inspect::Inspect),
    Convert(convert::Convert),
    Quantize(Box<quantize::Quantize>),
    Imatrix(imatrix::Imatrix),
    Prune(Box<prune::Prune>),
    Distill(Box<distill::Distill>),
    Eval(eval::Eval),
    Gate(gate::Gate),
    Generate(generate::Generate),
    Bench(bench::Bench),
    #[command(hide = true)]
    BenchWorker(bench::BenchWorker),
    Compare(compare::Compare),
    Run(run::Run),
}
