//! Writing a planned GGUF file piece by piece.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::coverage::Coverage;
use super::error::ContainerError;
use super::layout::Layout;
use super::output::PagedOutput;
use super::staged::StagedFile;

/// Writes the tensors of a [`Layout`] in any order and from any thread; the file appears whole or not at all.
///
/// Dropped before [`Writer::finish`] it leaves nothing behind, and an existing file of that name as it was.
pub struct Writer {
    path: PathBuf,
    layout: Layout,
    staged: StagedFile,
    output: PagedOutput,
    written: Vec<Mutex<Coverage>>,
}

impl Writer {
    /// Reserves room for the whole file beside `path` and writes its header.
    ///
    /// # Errors
    /// The directory cannot be written to, or its disk has too little room.
    pub fn create(path: &Path, layout: Layout) -> Result<Self, ContainerError> {
        let create = |error| failure(path, layout.total_bytes(), error, true);
        let staged = StagedFile::create(path).map_err(create)?;
        staged.reserve(PagedOutput::whole_pages(layout.total_bytes())).map_err(create)?;
        let output = staged.file().try_clone().and_then(PagedOutput::start).map_err(create)?;
        let header = layout.header();
        output.write_at(0, header).map_err(create)?;
        write_zeros(&output, header.len() as u64, layout.data_offset()).map_err(create)?;
        let written = layout.tensors().iter().map(|_| Mutex::default()).collect();
        Ok(Self { path: path.to_owned(), layout, staged, output, written })
    }

    /// The plan being written.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Puts `bytes` at `offset` bytes into the tensor's data. Large pieces are best; every byte is written once.
    ///
    /// The bytes are copied and written in the background.
    ///
    /// # Errors
    /// No such tensor is planned, the range leaves the tensor or was written before, or an earlier write failed on disk.
    pub fn write(&self, tensor: &str, offset: u64, bytes: &[u8]) -> Result<(), ContainerError> {
        let Some(position) = self.layout.position(tensor) else {
            return Err(ContainerError::NotPlanned { path: self.path.clone(), tensor: tensor.to_owned() });
        };
        let info = &self.layout.tensors()[position];
        let (length, size) = (bytes.len() as u64, info.byte_len() as u64);
        let Some(end) = offset.checked_add(length).filter(|&end| end <= size) else {
            return Err(ContainerError::BeyondTensor {
                path: self.path.clone(),
                tensor: tensor.to_owned(),
                offset,
                length,
                bytes: size,
            });
        };
        if !self.written[position].lock().unwrap_or_else(PoisonError::into_inner).add(offset, end) {
            return Err(ContainerError::WrittenTwice {
                path: self.path.clone(),
                tensor: tensor.to_owned(),
                offset,
                length,
            });
        }
        let start = self.layout.data_offset() + info.offset;
        self.output.write_at(start + offset, bytes).map_err(|error| self.failure(error))?;
        // Exactly one write reaches the tensor's end; it brings the padding along.
        if end == size && length > 0 {
            let end = start + size;
            write_zeros(&self.output, end, end.next_multiple_of(self.layout.alignment()))
                .map_err(|error| self.failure(error))?;
        }
        Ok(())
    }

    /// Syncs the file and gives it its name.
    ///
    /// # Errors
    /// A tensor is incomplete, or the disk failed; the target is then as it was before.
    pub fn finish(self) -> Result<(), ContainerError> {
        for (tensor, coverage) in self.layout.tensors().iter().zip(&self.written) {
            let written = coverage.lock().unwrap_or_else(PoisonError::into_inner).total();
            let bytes = tensor.byte_len() as u64;
            if written != bytes {
                return Err(ContainerError::Incomplete {
                    path: self.path.clone(),
                    tensor: tensor.name.clone(),
                    written,
                    bytes,
                });
            }
        }
        let Self { path, layout, staged, output, .. } = self;
        let total = layout.total_bytes();
        write_zeros(&output, total, PagedOutput::whole_pages(total))
            .and_then(|()| output.finish())
            .and_then(|()| staged.publish(total))
            .map_err(|error| failure(&path, total, error, false))
    }

    fn failure(&self, error: io::Error) -> ContainerError {
        failure(&self.path, self.layout.total_bytes(), error, false)
    }
}

fn failure(path: &Path, needed: u64, error: io::Error, creating: bool) -> ContainerError {
    let path = path.to_owned();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            ContainerError::DiskFull { path, needed, error }
        }
        _ if creating => ContainerError::Create { path, error },
        _ => ContainerError::Write { path, error },
    }
}

fn write_zeros(output: &PagedOutput, start: u64, end: u64) -> io::Result<()> {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut at = start;
    while at < end {
        let length = (end - at).min(ZEROS.len() as u64);
        output.write_at(at, &ZEROS[..length as usize])?;
        at += length;
    }
    Ok(())
}
