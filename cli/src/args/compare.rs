//! `slmc compare`

use std::path::PathBuf;

use clap::Args;

/// Show runs side by side: sizes, losses, accuracy and speed, the best of each line marked
///
/// A RUN is a directory that --report of another command wrote, or the metrics.parquet or metrics.json in it. Where runs were
/// measured on different text, windows or originals, that is said, and no best is marked.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slmc compare awq-report gptq-report
  slmc compare runs/*/metrics.parquet --markdown table.md
  slmc compare a b --html compare.html
  slmc compare a b --json")]
pub struct Compare {
    /// Report directories, or files of measurements
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// Write the table as Markdown
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// Write table and charts as a page
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}
