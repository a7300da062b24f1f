//! Where a command's measurements go: the same option wherever something is measured.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Write what was measured to a directory: report.html, report.md, metrics.parquet and metrics.json; an earlier report there is
    /// replaced
    #[arg(long, value_name = "DIR")]
    pub report: Option<PathBuf>,
}
