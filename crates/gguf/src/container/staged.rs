//! A file that appears under its name whole or not at all.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// A file being written beside its target.
///
/// On Linux it has no name until it is complete (`O_TMPFILE`), so that even a killed process leaves nothing behind.
/// Where the file system cannot do that, it is a hidden file that is removed when dropped.
pub(super) struct StagedFile {
    target: PathBuf,
    directory: PathBuf,
    content: Content,
}

enum Content {
    #[cfg(target_os = "linux")]
    Unnamed(File),
    Named(NamedTempFile),
}

impl StagedFile {
    /// Starts a file that will become `target`; an existing target stays as it is until [`StagedFile::publish`].
    pub(super) fn create(target: &Path) -> io::Result<Self> {
        if target.file_name().is_none() || target.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory"));
        }
        let directory = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        #[cfg(target_os = "linux")]
        let content = match linux::unnamed(&directory) {
            Some(file) => Content::Unnamed(file),
            None => Content::Named(named(&directory)?),
        };
        #[cfg(not(target_os = "linux"))]
        let content = Content::Named(named(&directory)?);
        Ok(Self { target: target.to_owned(), directory, content })
    }

    /// The open file.
    pub(super) fn file(&self) -> &File {
        match &self.content {
            #[cfg(target_os = "linux")]
            Content::Unnamed(file) => file,
            Content::Named(file) => file.as_file(),
        }
    }

    /// Reserves `bytes` on the disk, so that a full disk shows before the work and not after it.
    pub(super) fn reserve(&self, bytes: u64) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        if linux::reserve(self.file(), bytes)? {
            return Ok(());
        }
        self.file().set_len(bytes)
    }

    /// Cuts the file to `bytes`, syncs it, gives it its name and syncs the directory.
    pub(super) fn publish(self, bytes: u64) -> io::Result<()> {
        self.file().set_len(bytes)?;
        self.file().sync_all()?;
        let named = match self.content {
            #[cfg(target_os = "linux")]
            Content::Unnamed(file) => builder()
                .make_in(&self.directory, |path| linux::link(&file, path))?
                .persist(&self.target)
                .map(drop)
                .map_err(|e| e.error),
            Content::Named(file) => file.persist(&self.target).map(drop).map_err(|e| e.error),
        };
        named?;
        // The name is durable only once the directory is; other systems than Unix cannot open directories.
        #[cfg(unix)]
        File::open(&self.directory)?.sync_all()?;
        Ok(())
    }
}

fn named(directory: &Path) -> io::Result<NamedTempFile> {
    // `make_in` and not `tempfile_in`: permissions as of an ordinary new file, where the latter lets only the owner read.
    builder()
        .make_in(directory, |path| fs::OpenOptions::new().read(true).write(true).create_new(true).open(path))
}

fn builder() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".slmc-").suffix(".partial");
    builder
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::File;
    use std::io;
    use std::os::fd::AsRawFd;
    use std::path::Path;

    use rustix::fs::{AtFlags, CWD, FallocateFlags, Mode, OFlags};
    use rustix::io::Errno;

    fn descriptor_path(file: &File) -> String {
        format!("/proc/self/fd/{}", file.as_raw_fd())
    }

    /// A file without a name, or `None` where the file system has no such files or `/proc`, needed to name it, is missing.
    pub(super) fn unnamed(directory: &Path) -> Option<File> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        // Permissions as of an ordinary new file: the process's umask applies.
        let file = File::from(rustix::fs::open(directory, flags, Mode::from_raw_mode(0o666)).ok()?);
        Path::new(&descriptor_path(&file)).exists().then_some(file)
    }

    pub(super) fn link(file: &File, path: &Path) -> io::Result<()> {
        rustix::fs::linkat(CWD, descriptor_path(file), CWD, path, AtFlags::SYMLINK_FOLLOW)?;
        Ok(())
    }

    /// False where the file system cannot reserve.
    pub(super) fn reserve(file: &File, bytes: u64) -> io::Result<bool> {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// The way of file systems without nameless files, which the tests' own disk does not take by itself.
    #[test]
    fn a_named_file_is_published_or_removed_too() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        let staged = || StagedFile {
            target: target.clone(),
            directory: dir.path().to_owned(),
            content: Content::Named(named(dir.path()).unwrap()),
        };
        let files = || fs::read_dir(dir.path()).unwrap().count();
        let dropped = staged();
        assert_eq!(files(), 1);
        drop(dropped);
        assert_eq!(files(), 0);
        let published = staged();
        published.file().write_all(b"content").unwrap();
        published.publish(4).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"cont");
        assert_eq!(files(), 1);
    }
}
