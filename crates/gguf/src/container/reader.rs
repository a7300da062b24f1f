//! A GGUF file on disk, memory-mapped.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::error::ContainerError;
use super::metadata::Metadata;
use super::parse::Header;
use super::tensor_info::TensorInfo;

/// An open GGUF file whose header was checked whole; tensor data is read through a memory map.
///
/// The file must not be shortened while it is open: the operating system then ends the process at the next access.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    map: Mmap,
    header: Header,
    index: HashMap<String, usize>,
}

impl GgufFile {
    /// Maps the file and checks its header.
    ///
    /// # Errors
    /// The file cannot be opened or mapped, or is no sound GGUF.
    pub fn open(path: &Path) -> Result<Self, ContainerError> {
        let path = path.to_owned();
        let map = map_file(&path)?;
        let header =
            Header::parse(&map).map_err(|error| ContainerError::Malformed { path: path.clone(), error })?;
        let index = header.tensors.iter().enumerate().map(|(at, t)| (t.name.clone(), at)).collect();
        Ok(Self { path, map, header, index })
    }

    /// The path the file was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the whole file.
    pub fn file_bytes(&self) -> u64 {
        self.map.len() as u64
    }

    /// The file's GGUF version, 2 or 3.
    pub fn version(&self) -> u32 {
        self.header.version
    }

    /// The metadata in file order.
    pub fn metadata(&self) -> &Metadata {
        &self.header.metadata
    }

    /// The tensors in file order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.header.tensors
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.index.get(name).map(|&at| &self.header.tensors[at])
    }

    /// The stored blocks of a tensor of this file.
    ///
    /// # Panics
    /// `tensor` comes from another file and lies outside this one.
    pub fn data(&self, tensor: &TensorInfo) -> &[u8] {
        let (start, length) = self.span(tensor);
        &self.map[start..start + length]
    }

    /// Tells the system that the tensor will be read soon, so that it starts reading it from disk now.
    ///
    /// A hint: whether the system follows it is not reported.
    pub fn prefetch(&self, tensor: &TensorInfo) {
        #[cfg(unix)]
        {
            let (start, length) = self.span(tensor);
            let _ = self.map.advise_range(memmap2::Advice::WillNeed, start, length);
        }
        #[cfg(not(unix))]
        let _ = tensor;
    }

    /// Gives the tensor's pages back, so that they stop counting as this process's memory. Reading it again is allowed
    /// and maps them anew.
    ///
    /// A hint: whether the system follows it is not reported.
    pub fn release(&self, tensor: &TensorInfo) {
        #[cfg(target_os = "linux")]
        {
            let (start, length) = self.span(tensor);
            // SAFETY: the map is read-only and backed by the file; dropped pages come back with the file's content.
            let _ =
                unsafe { self.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, length) };
        }
        #[cfg(not(target_os = "linux"))]
        let _ = tensor;
    }

    /// Start in the file and length; both were checked against the file's length when it was opened.
    fn span(&self, tensor: &TensorInfo) -> (usize, usize) {
        ((self.header.data_offset + tensor.offset) as usize, tensor.byte_len())
    }
}

/// A regular file as bytes in memory, read as they are used.
///
/// # Errors
/// It cannot be opened or mapped, or is no regular file.
pub(crate) fn map_file(path: &Path) -> Result<Mmap, ContainerError> {
    let open = |error| ContainerError::Open { path: path.to_owned(), error };
    let file = File::open(path).map_err(open)?;
    if !file.metadata().map_err(open)?.is_file() {
        return Err(ContainerError::NotAFile { path: path.to_owned() });
    }
    // SAFETY: the map is read-only, and every access is bounds-checked against its length. A file changed by others
    // meanwhile can show torn data, which the readers of the bytes must stand anyway.
    unsafe { Mmap::map(&file) }.map_err(open)
}
