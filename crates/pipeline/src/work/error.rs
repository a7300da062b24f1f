//! What can be wrong with a work directory.

use std::io;
use std::path::{Path, PathBuf};

use super::fingerprint::Change;

/// A work directory that cannot be used. Messages name it and say what to do next.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum WorkError {
    #[error(
        "`{}` holds an unfinished run ({steps} steps done); continue it with --resume, or delete the directory to start again",
        directory.display()
    )]
    Unfinished { directory: PathBuf, steps: usize },
    #[error(
        "the run in `{}` cannot be resumed: {}; put that back, or delete the directory to start again",
        directory.display(), list(changes)
    )]
    Changed { directory: PathBuf, changes: Vec<Change> },
    #[error("`{}` is damaged: {reason}; delete the directory and start again without --resume", directory.display())]
    Damaged { directory: PathBuf, reason: String },
    #[error("`{}` was written by another version of slmc; delete the directory and start again", directory.display())]
    Version { directory: PathBuf },
    #[error("`{}` is in use by another slmc; wait for it to end, or choose another --output", directory.display())]
    InUse { directory: PathBuf },
    #[error(
        "`{}` is where the run would keep its finished blocks, and is something else; move it away, or choose another --output",
        path.display()
    )]
    Foreign { path: PathBuf },
    #[error("no room left in `{}` ({error}); make room, and continue the run with --resume", path.display())]
    DiskFull { path: PathBuf, error: io::Error },
    #[error("cannot read or write `{}`: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
}

impl WorkError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |error| {
            let path = path.to_owned();
            match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                    Self::DiskFull { path, error }
                }
                _ => Self::Io { path, error },
            }
        }
    }
}

fn list(changes: &[Change]) -> String {
    changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
