//! Values in an unnamed file.
//!
//! It is read and written, not mapped: a full disk is then an error and not a signal, and the pages, which the system
//! keeps in its cache as long as it has room, are no memory of the process.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::work::WorkError;

/// Values that are converted together.
const CHUNK: usize = 1 << 16;

const VALUE_BYTES: usize = size_of::<f32>();

/// A file of f32 values, little-endian.
pub(super) struct SpillFile {
    directory: PathBuf,
    file: File,
}

impl SpillFile {
    pub fn create(directory: &Path) -> Result<Self, WorkError> {
        let file = tempfile::tempfile_in(directory).map_err(WorkError::io(directory))?;
        Ok(Self { directory: directory.to_owned(), file })
    }

    /// Writes values from value `first` on.
    pub fn write(&self, first: u64, values: &[f32]) -> Result<(), WorkError> {
        let mut file = &self.file;
        let mut bytes = Vec::with_capacity(CHUNK.min(values.len()) * VALUE_BYTES);
        let mut write = || -> std::io::Result<()> {
            file.seek(SeekFrom::Start(first * VALUE_BYTES as u64))?;
            for values in values.chunks(CHUNK) {
                bytes.clear();
                bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
                file.write_all(&bytes)?;
            }
            Ok(())
        };
        write().map_err(WorkError::io(&self.directory))
    }

    /// Reads `count` values from value `first` on.
    pub fn read(&self, first: u64, count: usize) -> Result<Vec<f32>, WorkError> {
        let mut file = &self.file;
        let mut bytes = vec![0; CHUNK.min(count) * VALUE_BYTES];
        let mut values = Vec::with_capacity(count);
        let mut read = || -> std::io::Result<()> {
            file.seek(SeekFrom::Start(first * VALUE_BYTES as u64))?;
            while values.len() < count {
                let bytes = &mut bytes[..CHUNK.min(count - values.len()) * VALUE_BYTES];
                file.read_exact(bytes)?;
                values.extend(bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)));
            }
            Ok(())
        };
        read().map_err(WorkError::io(&self.directory))?;
        Ok(values)
    }
}
