//! What can go wrong when a checkpoint is opened or read.

use std::path::PathBuf;

use thiserror::Error;

use crate::Dtype;
use crate::config::ConfigError;
use crate::header::HeaderError;
use crate::index::IndexError;
use crate::packed::PackedError;

/// A checkpoint that cannot be opened, or a tensor that cannot be read from it.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// The operating system refused.
    #[error("{path}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The path is not a directory.
    #[error(
        "{path} is not a directory; expected a Hugging Face checkpoint directory with config.json, \
         model.safetensors (or shards with model.safetensors.index.json) and tokenizer.json"
    )]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// A file every checkpoint has is missing.
    #[error(
        "{dir} has no {file}; expected a Hugging Face checkpoint directory with config.json, \
         model.safetensors (or shards with model.safetensors.index.json) and tokenizer.json"
    )]
    MissingFile {
        /// The checkpoint directory.
        dir: PathBuf,
        /// The missing file.
        file: &'static str,
    },
    /// The tokenizer is there, but not as `tokenizer.json`.
    #[error(
        "{dir} has its tokenizer as {found} and no tokenizer.json, which alone is read; transformers writes it: \
         pip install transformers sentencepiece protobuf && python -c \"from transformers import AutoTokenizer; \
         AutoTokenizer.from_pretrained('{dir}').save_pretrained('{dir}')\""
    )]
    OtherTokenizer {
        /// The checkpoint directory.
        dir: PathBuf,
        /// The file found instead.
        found: &'static str,
    },
    /// The weights are there, but in a format that executes code when it is loaded.
    #[error("{dir} holds its weights as {found}; only safetensors are read (model.safetensors)")]
    OtherWeightFormat {
        /// The checkpoint directory.
        dir: PathBuf,
        /// The file found instead.
        found: String,
    },
    /// A file is a symbolic link out of the checkpoint directory.
    #[error(
        "{path} links to {target}, outside the checkpoint directory \
         (only a Hugging Face cache's own blobs may be linked to); copy the file instead"
    )]
    LinkLeavesDirectory {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// A JSON or template file is larger than any honest one.
    #[error("{path} has {found} bytes; at most {limit} are read")]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        found: u64,
        /// The most that is read.
        limit: u64,
    },
    /// A JSON file does not parse, or is not what it should be.
    #[error("{path}: {reason}")]
    Json {
        /// The file.
        path: PathBuf,
        /// The parser's message.
        reason: String,
    },
    /// `config.json` lacks a field or holds a bad one.
    #[error("{path}: {source}")]
    Config {
        /// The file.
        path: PathBuf,
        /// The field and its problem.
        source: ConfigError,
    },
    /// A safetensors file's header is corrupt.
    #[error("{path}: {source}")]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: HeaderError,
    },
    /// `model.safetensors.index.json` is corrupt or disagrees with its shards.
    #[error("{path}: {source}")]
    Index {
        /// The index.
        path: PathBuf,
        /// What is wrong with it.
        source: IndexError,
    },
    /// A tensor was asked for that the checkpoint does not hold.
    #[error("{dir} holds no tensor {tensor}")]
    NoSuchTensor {
        /// The checkpoint directory.
        dir: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// A tensor of integers was to be read as weights.
    #[error("tensor {tensor} holds {found} elements, which are no weights; expected F16, BF16 or F32")]
    NotFloat {
        /// The tensor.
        tensor: String,
        /// Its dtype.
        found: Dtype,
    },
    /// The parts of a packed weight do not fit each other.
    #[error("{dir}: packed weight {tensor}: {source}")]
    Packed {
        /// The checkpoint directory.
        dir: PathBuf,
        /// The weight.
        tensor: String,
        /// What is wrong with it.
        source: PackedError,
    },
    /// Rows were asked for that the tensor does not have.
    #[error("{path}: rows {start}..{end} of tensor {tensor}, which has {found} rows")]
    RowsOutOfRange {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The first row asked for.
        start: usize,
        /// One past the last row asked for.
        end: usize,
        /// The rows it has.
        found: usize,
    },
    /// The caller's buffer does not have the size of what is to be read.
    #[error("tensor {tensor}: reading {expected} values into a buffer of {found}")]
    OutputLength {
        /// The tensor.
        tensor: String,
        /// Values to be read.
        expected: usize,
        /// Values the buffer holds.
        found: usize,
    },
    /// A weight is NaN or infinite.
    #[error("{path}: tensor {tensor} holds {value} at index {index}; weights must be finite")]
    NonFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The flat index of the first such weight.
        index: usize,
        /// Its value.
        value: f32,
    },
}
