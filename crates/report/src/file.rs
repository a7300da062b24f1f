//! Files that appear whole or not at all.

use std::io::{self, Write};
use std::path::Path;

/// Writes `contents` beside `path` and renames it there, over what was there.
///
/// # Errors
/// The file system's; what was at `path` is still there then.
pub fn write_whole(path: &Path, contents: &[u8]) -> io::Result<()> {
    if std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir()) {
        // a device or pipe is written to, not replaced
        return std::fs::write(path, contents);
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // as any other new file, not for its owner alone
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(directory)?;
    file.write_all(contents)?;
    file.as_file().sync_all()?;
    file.persist(path).map(drop).map_err(|error| error.error)
}
