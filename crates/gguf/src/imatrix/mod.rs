//! llama.cpp's importance matrix: for every matrix of a model, the sums of squares of its inputs' columns.
//!
//! Source of both formats: llama.cpp's `tools/imatrix/imatrix.cpp` (`save_imatrix`, `save_imatrix_legacy`) and
//! `common/imatrix-loader.cpp`.
//!
//! The GGUF format, read and written: `general.type` is `imatrix`; `imatrix.datasets` names the texts, `imatrix.chunk_count`
//! and `imatrix.chunk_size` say how much of them was run; every matrix `NAME` has the tensors `NAME.in_sum2` (Σx² of
//! every column, f32) and `NAME.counts` (the number of tokens, f32). A stack of expert matrices has a row of sums and a
//! count for each.
//!
//! The legacy format (`.dat`), only read: little-endian, without a magic number.
//!
//! ```text
//! entries i32 | (name length i32 | name | calls i32 | values i32 | calls · E[x²] f32 …) … | chunks i32 | length i32 | text's name
//! ```

mod container;
mod entry;
mod error;
mod legacy;

use std::collections::BTreeMap;
use std::path::Path;

pub use entry::{Entry, EntryError};
pub use error::{ImatrixError, ImatrixFormatError};

use crate::container::map_file;

/// An importance matrix.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImportanceMatrix {
    /// By the GGUF name of the matrix whose inputs it is about, for example `blk.0.attn_q.weight`.
    pub entries: BTreeMap<String, Entry>,
    /// The texts it was computed on, as their user named them: file names, sometimes paths.
    pub datasets: Vec<String>,
    /// Chunks of text that were run.
    pub chunk_count: u32,
    /// Tokens of a chunk; 0 where the file does not say (legacy).
    pub chunk_size: u32,
    /// SHA-256 of the calibration tokens, in files that slmc wrote.
    pub calibration_sha256: Option<String>,
}

impl ImportanceMatrix {
    /// Reads a file of either format.
    ///
    /// # Errors
    /// The file cannot be opened, or is no sound importance matrix.
    pub fn read(path: &Path) -> Result<Self, ImatrixError> {
        let map = map_file(path)?;
        Self::parse(&map).map_err(|error| ImatrixError::Malformed { path: path.to_owned(), error })
    }

    /// Takes the bytes of a whole file of either format.
    ///
    /// # Errors
    /// One [`ImatrixFormatError`] variant for each kind of corruption.
    pub fn parse(file: &[u8]) -> Result<Self, ImatrixFormatError> {
        if file.starts_with(b"GGUF") { container::parse(file) } else { legacy::parse(file) }
    }

    /// Writes the GGUF format; returns the file's bytes. The file appears whole or not at all.
    ///
    /// # Errors
    /// A name too long for a tensor; the disk.
    pub fn write(&self, path: &Path) -> Result<u64, ImatrixError> {
        container::write(self, path)
    }
}
