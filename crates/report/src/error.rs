//! What can be wrong with reports.

use std::path::PathBuf;

/// A report that cannot be written or read. Messages name the file and the thing.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Something else is where the report should go.
    #[error("{path}: {found}, and not a report of slmc; name another directory, or move it away")]
    InTheWay {
        /// The directory asked for.
        path: PathBuf,
        /// What stands there.
        found: String,
    },
    /// The file system.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that holds something else.
    #[error(
        "{path}: no measurements of slmc: {reason}; give a report directory (slmc eval … --report DIR), or the metrics.parquet or metrics.json in it"
    )]
    NotMeasurements {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A rendering failed.
    #[error("cannot write the report as {format}: {reason}")]
    Rendering {
        /// `Parquet`, `HTML` …
        format: &'static str,
        /// Why.
        reason: String,
    },
}
