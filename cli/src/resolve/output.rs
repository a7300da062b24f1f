//! Where a job writes when nothing is said.

use std::path::{Path, PathBuf};

/// `NAME-SUFFIX` in the working directory.
pub fn default_output(model: &Path, suffix: &str) -> PathBuf {
    in_working_directory(model, &format!("-{suffix}"))
}

/// The model's name and `ending`, in the working directory.
pub fn in_working_directory(model: &Path, ending: &str) -> PathBuf {
    let model = model.canonicalize().unwrap_or_else(|_| model.to_path_buf());
    let name = model.file_name().map_or_else(|| "model".into(), |n| n.to_string_lossy());
    PathBuf::from(format!("{name}{ending}"))
}
