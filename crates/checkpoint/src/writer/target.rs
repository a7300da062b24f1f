//! The directory a checkpoint is prepared in, and its move to the target.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::WriteError;
use super::plan::ADAPTER_FILES;
use crate::index::INDEX_FILE;
use crate::side_files::{ADDITIONAL_CHAT_TEMPLATES, SIDE_FILES};

/// What to do about a target directory that exists and is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExistingTarget {
    /// Refuse it.
    Refuse,
    /// Replace it, provided it holds nothing but the files of a checkpoint.
    Replace,
}

/// What a training run measured, beside the weights that came of it.
const METRICS_FILE: &str = "metrics.jsonl";

/// The temporary directory's name, around something random.
const PREFIX: &str = ".checkpoint-";
const SUFFIX: &str = ".partial";

/// A temporary directory on the target's file system.
#[derive(Debug)]
pub(super) struct Staging {
    temporary: TempDir,
    target: PathBuf,
    existing: ExistingTarget,
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> WriteError {
    let path = path.to_path_buf();
    move |source| WriteError::Io { path, source }
}

impl Staging {
    /// Checks the target and makes a directory in `room`, which belongs to this checkpoint alone: what a killed process left
    /// there is removed. Without one, the directory is made beside the target.
    pub fn new(target: &Path, room: Option<&Path>, existing: ExistingTarget) -> Result<Self, WriteError> {
        // A link to a directory stays: what it points to is replaced.
        let target = if target.exists() { target.canonicalize().map_err(io(target))? } else { target.into() };
        check_target(&target, existing)?;
        let parent = match (room, target.parent()) {
            (Some(room), _) => room,
            (None, Some(parent)) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        if let Some(room) = room {
            remove_leftovers(room)?;
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX).suffix(SUFFIX);
        #[cfg(unix)]
        let permissions = {
            use std::os::unix::fs::PermissionsExt;
            fs::Permissions::from_mode(0o777) // less the umask: this becomes an ordinary directory
        };
        #[cfg(unix)]
        builder.permissions(permissions);
        let temporary = builder.tempdir_in(parent).map_err(io(parent))?;
        Ok(Self { temporary, target, existing })
    }

    pub fn dir(&self) -> &Path {
        self.temporary.path()
    }

    /// Syncs the directory and moves it to the target; a directory to be replaced is moved aside first, and
    /// back if that fails.
    pub fn publish(self) -> Result<(), WriteError> {
        sync_directory(self.dir())?;
        let target = &self.target;
        check_target(target, self.existing)?; // it may have changed meanwhile
        let aside = if target.exists() {
            let mut aside = self.dir().as_os_str().to_owned();
            aside.push(".replaced");
            let aside = PathBuf::from(aside);
            fs::rename(target, &aside).map_err(io(target))?;
            Some(aside)
        } else {
            None
        };
        if let Err(source) = fs::rename(self.dir(), target) {
            if let Some(aside) = &aside {
                fs::rename(aside, target).map_err(io(target))?;
            }
            return Err(WriteError::Io { path: target.clone(), source });
        }
        let _moved_away = self.temporary.keep();
        if let Some(aside) = &aside {
            fs::remove_dir_all(aside).map_err(io(aside))?;
        }
        match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => sync_directory(parent),
            _ => sync_directory(Path::new(".")),
        }
    }
}

/// Removes what killed processes were preparing.
fn remove_leftovers(room: &Path) -> Result<(), WriteError> {
    for entry in fs::read_dir(room).map_err(io(room))? {
        let entry = entry.map_err(io(room))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
            fs::remove_dir_all(entry.path()).map_err(io(&entry.path()))?;
        }
    }
    Ok(())
}

/// Checks that a checkpoint may be written to `target`, as every writer does when it begins.
///
/// # Errors
/// It is no directory, or holds what is not to be replaced.
pub fn check_target(target: &Path, existing: ExistingTarget) -> Result<(), WriteError> {
    let metadata = match fs::symlink_metadata(target) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(io(target))?,
    };
    if !metadata.is_dir() {
        return Err(WriteError::TargetIsNoDirectory { path: target.to_path_buf() });
    }
    for entry in fs::read_dir(target).map_err(io(target))? {
        let entry = entry.map_err(io(target))?;
        if existing == ExistingTarget::Refuse {
            return Err(WriteError::TargetNotEmpty { path: target.to_path_buf() });
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type().map_err(io(target))?;
        let ours = name.starts_with("model") && name.ends_with(".safetensors")
            || name == INDEX_FILE
            || name == "config.json"
            || name == METRICS_FILE
            || ADAPTER_FILES.contains(&name.as_str())
            || SIDE_FILES.contains(&name.as_str());
        if !(kind.is_file() && ours || kind.is_dir() && name == ADDITIONAL_CHAT_TEMPLATES) {
            return Err(WriteError::TargetHoldsOtherFiles { path: target.to_path_buf(), found: name });
        }
    }
    Ok(())
}

/// Makes the directory's entries durable.
fn sync_directory(path: &Path) -> Result<(), WriteError> {
    #[cfg(unix)]
    return fs::File::open(path).and_then(|dir| dir.sync_all()).map_err(io(path));
    #[cfg(not(unix))]
    {
        let _ = path; // a directory cannot be opened as a file there
        Ok(())
    }
}
