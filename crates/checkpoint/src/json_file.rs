//! Small text files of a checkpoint: read with a size limit, parsed with the path in every error.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::CheckpointError;

/// The most that is read of any JSON or template file, in bytes. The largest honest ones are tokenizers of
/// some 30 MB.
pub(crate) const MAX_TEXT_BYTES: u64 = 256 << 20;

/// The file's text, or `None` if there is no such file.
pub(crate) fn read_text(path: &Path) -> Result<Option<String>, CheckpointError> {
    let io = |source| CheckpointError::Io { path: path.to_path_buf(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io(e)),
    };
    let found = file.metadata().map_err(io)?.len();
    let too_large =
        |found| CheckpointError::FileTooLarge { path: path.to_path_buf(), found, limit: MAX_TEXT_BYTES };
    if found > MAX_TEXT_BYTES {
        return Err(too_large(found));
    }
    let mut text = String::new();
    // The length above may be a lie (a pipe, a growing file), so the reading itself is limited as well.
    let read = file.take(MAX_TEXT_BYTES + 1).read_to_string(&mut text).map_err(io)?;
    if read as u64 > MAX_TEXT_BYTES {
        return Err(too_large(read as u64));
    }
    Ok(Some(text))
}

/// The file's JSON value, or `None` if there is no such file.
pub(crate) fn read_json(path: &Path) -> Result<Option<serde_json::Value>, CheckpointError> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|e| CheckpointError::Json { path: path.to_path_buf(), reason: e.to_string() })
}
