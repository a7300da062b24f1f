//! What can be wrong with a GGUF file, and with reading or writing one.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::TensorType;

/// A part of the file, for errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Magic, version and counts.
    Header,
    /// The key of metadata entry `.0`, counted from 0.
    Key(u64),
    /// The value of this metadata key.
    Value(String),
    /// The description of tensor `.0`, counted from 0.
    Tensor(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Header => f.write_str("the header"),
            Place::Key(index) => write!(f, "the key of metadata entry {index}"),
            Place::Value(key) => write!(f, "the value of metadata key `{key}`"),
            Place::Tensor(index) => write!(f, "the description of tensor {index}"),
        }
    }
}

/// Content that is no sound GGUF: found while reading, or refused before writing.
///
/// Lengths, sizes and offsets are in bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum FormatError {
    #[error("not a GGUF file: it starts with {found:?} instead of \"GGUF\"", found = String::from_utf8_lossy(found))]
    NotGguf { found: Vec<u8> },
    #[error("big-endian GGUF (version field {version:#010x}) is not supported")]
    BigEndian { version: u32 },
    #[error("GGUF version {version} is not supported; versions 2 and 3 are")]
    UnsupportedVersion { version: u32 },
    #[error("file ends inside {place}: {needed} bytes expected at offset {at}, {available} left")]
    Truncated { place: Place, at: u64, needed: u64, available: u64 },
    #[error("{count} metadata entries are declared, the rest of the file has room for {room}")]
    TooManyEntries { count: u64, room: u64 },
    #[error("{count} tensors are declared, the rest of the file has room for {room}")]
    TooManyTensors { count: u64, room: u64 },
    #[error("a string of {length} bytes in {place}, with {available} bytes left in the file")]
    StringTooLong { place: Place, length: u64, available: u64 },
    #[error("text that is not UTF-8 in {place}")]
    NotUtf8 { place: Place },
    #[error("metadata entry {index} has an empty key")]
    EmptyKey { index: u64 },
    #[error("a metadata key of {length} bytes; at most 65535 are allowed")]
    KeyTooLong { length: u64 },
    #[error("metadata key `{key}` occurs twice")]
    DuplicateKey { key: String },
    #[error("metadata key `{key}` has the unknown value type {id}")]
    UnknownValueType { key: String, id: u32 },
    #[error("metadata key `{key}`: an array of {count} elements, with {available} bytes left in the file")]
    ArrayTooLong { key: String, count: u64, available: u64 },
    #[error("metadata key `{key}`: arrays nested deeper than {at_most} levels")]
    ArrayTooDeep { key: String, at_most: usize },
    #[error("metadata key `{key}`: a boolean stored as {value}, expected 0 or 1")]
    NotABoolean { key: String, value: u8 },
    #[error("`general.alignment` should be a u32 power of two, found {found}")]
    BadAlignment { found: String },
    #[error("tensor {index} has an empty name")]
    EmptyTensorName { index: u64 },
    #[error("tensor name `{name}` has {length} bytes; at most 63 are allowed")]
    TensorNameTooLong { name: String, length: usize },
    #[error("tensor `{tensor}` occurs twice")]
    DuplicateTensor { tensor: String },
    #[error("tensor `{tensor}` has {dimensions} dimensions, expected 1 to 4")]
    BadDimensions { tensor: String, dimensions: u64 },
    #[error("tensor `{tensor}` has an empty dimension: shape {shape:?}")]
    EmptyDimension { tensor: String, shape: Vec<u64> },
    #[error("tensor `{tensor}`: the size of shape {shape:?} does not fit 63 bits")]
    ShapeOverflow { tensor: String, shape: Vec<u64> },
    #[error("tensor `{tensor}` has ggml type {id} ({name}), which slmc cannot read", name = ggml_type_name(*id))]
    UnknownTensorType { tensor: String, id: u32 },
    #[error("tensor `{tensor}`: rows of {columns} values are no whole number of {ty} blocks of {block}", block = ty.block_len())]
    PartialBlock { tensor: String, columns: u64, ty: TensorType },
    #[error(
        "tensor `{tensor}` starts at data offset {offset}, which is not a multiple of the alignment {alignment}"
    )]
    Misaligned { tensor: String, offset: u64, alignment: u64 },
    #[error(
        "tensor `{tensor}`: {bytes} bytes at data offset {offset} reach beyond the data section of {available} bytes"
    )]
    OutOfBounds { tensor: String, offset: u64, bytes: u64, available: u64 },
    #[error("the data of tensors `{first}` and `{second}` overlap")]
    Overlap { first: String, second: String },
    #[error("the file would be larger than 2^63 bytes")]
    TooLarge,
}

/// Reading or writing a GGUF file failed; every variant names the file.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum ContainerError {
    #[error("cannot open `{}`: {error}", path.display())]
    Open { path: PathBuf, error: io::Error },
    #[error("`{}` is not a regular file", path.display())]
    NotAFile { path: PathBuf },
    #[error("`{}`: {error}", path.display())]
    Malformed { path: PathBuf, error: FormatError },
    #[error("cannot create `{}`: {error}", path.display())]
    Create { path: PathBuf, error: io::Error },
    #[error("no room for `{}`: {needed} bytes needed ({error})", path.display())]
    DiskFull { path: PathBuf, needed: u64, error: io::Error },
    #[error("cannot write `{}`: {error}", path.display())]
    Write { path: PathBuf, error: io::Error },
    #[error("`{}`: no tensor `{tensor}` is planned", path.display())]
    NotPlanned { path: PathBuf, tensor: String },
    #[error("`{}`: {length} bytes at {offset} written to tensor `{tensor}` of {bytes} bytes", path.display())]
    BeyondTensor { path: PathBuf, tensor: String, offset: u64, length: u64, bytes: u64 },
    #[error("`{}`: part of {length} bytes at {offset} of tensor `{tensor}` was written before", path.display())]
    WrittenTwice { path: PathBuf, tensor: String, offset: u64, length: u64 },
    #[error("`{}`: tensor `{tensor}` is incomplete, {written} of {bytes} bytes written", path.display())]
    Incomplete { path: PathBuf, tensor: String, written: u64, bytes: u64 },
}

/// ggml's name of a tensor type, the ones that slmc does not read included (`enum ggml_type`).
fn ggml_type_name(id: u32) -> &'static str {
    if let Some(known) = TensorType::from_ggml_id(id) {
        return known.name();
    }
    match id {
        9 => "q8_1",
        15 => "q8_k",
        16 => "iq2_xxs",
        17 => "iq2_xs",
        18 => "iq3_xxs",
        19 => "iq1_s",
        21 => "iq3_s",
        22 => "iq2_s",
        24 => "i8",
        25 => "i16",
        26 => "i32",
        27 => "i64",
        28 => "f64",
        29 => "iq1_m",
        34 => "tq1_0",
        35 => "tq2_0",
        39 => "mxfp4",
        40 => "nvfp4",
        4 | 5 | 31..=33 | 36..=38 => "withdrawn from ggml",
        _ => "unknown to slmc",
    }
}
