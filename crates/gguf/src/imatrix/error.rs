//! What can be wrong with an importance matrix, and with reading or writing one.

use std::path::PathBuf;

use super::EntryError;
use crate::TensorType;
use crate::container::{ContainerError, FormatError, MetadataError};

/// Content that is no sound importance matrix.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum ImatrixFormatError {
    #[error(transparent)]
    Container(#[from] FormatError),
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    #[error(
        "general.type is {found:?}, expected \"imatrix\"; llama-imatrix and `slmc imatrix` make importance matrices"
    )]
    NotAnImatrix { found: String },
    #[error("tensor `{tensor}` is {found}, expected f32")]
    NotF32 { tensor: String, found: TensorType },
    #[error("there is a tensor `{found}`, but no `{missing}`; sums and counts come in pairs")]
    Unpaired { found: String, missing: String },
    #[error("entry `{tensor}`: {error}")]
    Entry { tensor: String, error: EntryError },
    #[error("no entries")]
    Empty,
    #[error(
        "no GGUF file, and as a legacy imatrix (.dat) it ends inside {place}: {needed} bytes expected, {available} left"
    )]
    Truncated { place: String, needed: u64, available: u64 },
    #[error("no GGUF file, and as a legacy imatrix (.dat) it declares {found} {what}; expected {expected}")]
    Number { what: String, found: i64, expected: String },
    #[error("legacy imatrix: the name of entry {index} is not UTF-8")]
    NotUtf8 { index: usize },
    #[error("legacy imatrix: entry `{tensor}` occurs twice")]
    Duplicate { tensor: String },
    #[error("legacy imatrix: {bytes} bytes behind its end")]
    Trailing { bytes: usize },
}

/// Reading or writing an importance matrix failed; every variant names the file.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum ImatrixError {
    #[error(transparent)]
    Container(#[from] ContainerError),
    #[error("`{}`: {error}", path.display())]
    Malformed { path: PathBuf, error: ImatrixFormatError },
}
