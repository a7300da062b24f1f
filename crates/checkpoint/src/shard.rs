//! One mapped safetensors file.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::header::{Header, TensorEntry};
use crate::{CheckpointError, HeaderError};

/// Linux maps up to this many bytes around a faulting address at once (`fault_around_bytes`).
#[cfg(unix)]
const FAULT_WINDOW: usize = 64 << 10;

/// A mapped file and its checked header.
#[derive(Debug)]
pub(crate) struct Shard {
    path: PathBuf,
    map: Mmap,
    header: Header,
}

impl Shard {
    /// Maps the file and checks its header. Only the header's pages are touched.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let io = |source| CheckpointError::Io { path: path.to_path_buf(), source };
        let bad_header = |source| CheckpointError::Header { path: path.to_path_buf(), source };
        let file = File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if !metadata.is_file() {
            return Err(io(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file")));
        }
        if metadata.len() == 0 {
            // An empty file cannot be mapped.
            return Err(bad_header(HeaderError::TooShort { found: 0 }));
        }
        // SAFETY: the mapping is private and read-only. As with every mapped file, another process that
        // truncates or rewrites the file meanwhile breaks this; a checkpoint in use must be left alone.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        let header = Header::parse(&map).map_err(bad_header)?;
        Ok(Self { path: path.to_path_buf(), map, header })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's name without its directory.
    pub fn name(&self) -> String {
        self.path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The bytes of a tensor of this shard's header.
    pub fn bytes(&self, entry: &TensorEntry) -> &[u8] {
        &self.map[self.header.data_start..][entry.begin..entry.end]
    }

    /// Tells the operating system that these bytes of a tensor are not needed soon, so that their pages stop
    /// counting as this process's resident memory. A later read maps them again.
    ///
    /// Neighbouring pages go as well: a fault maps a window of pages around the address that was read
    /// ([`FAULT_WINDOW`]), so that reading one chunk of rows maps pages of those before and after it, which
    /// may have been released already.
    pub fn release(&self, entry: &TensorEntry, bytes: Range<usize>) {
        #[cfg(unix)]
        if !bytes.is_empty() {
            let tensor = self.header.data_start + entry.begin;
            let start = (tensor + bytes.start).saturating_sub(FAULT_WINDOW);
            let end = (tensor + bytes.end + FAULT_WINDOW).min(self.map.len());
            // SAFETY: the mapping is read-only and file-backed, so a dropped page is read again from the
            // file with the same contents; nothing is lost.
            let advised = unsafe {
                self.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, end - start)
            };
            debug_assert!(advised.is_ok(), "madvise: {advised:?}");
        }
        #[cfg(not(unix))]
        let _ = (entry, bytes);
    }

    /// Asks the operating system to start reading these bytes of a tensor from the disk.
    pub fn prefetch(&self, entry: &TensorEntry) {
        #[cfg(unix)]
        if entry.end > entry.begin {
            let start = self.header.data_start + entry.begin;
            // Only a hint: whether it is taken changes nothing but the time of the first read.
            let _ = self.map.advise_range(memmap2::Advice::WillNeed, start, entry.end - entry.begin);
        }
        #[cfg(not(unix))]
        let _ = entry;
    }
}
