//! The GGUF container: typed metadata, a checked memory-mapped reader and a streaming writer.
//!
//! Versions 2 and 3, little-endian, are read; version 3 is written. Source of the layout: `docs/gguf.md` and
//! `ggml/src/gguf.cpp` in ggml.
//!
//! ```text
//! "GGUF" | version u32 | tensor count u64 | metadata count u64
//! metadata: key string | value type u32 | value                          (count times)
//! tensors:  name string | dims u32 | extents u64, innermost first | type u32 | offset u64   (count times)
//! padding to `general.alignment` | tensor data, each padded to the alignment
//! ```

mod coverage;
mod cursor;
mod encode;
mod error;
mod layout;
mod metadata;
mod output;
mod parse;
mod reader;
mod staged;
mod tensor_info;
mod value;
mod writer;

pub use error::{ContainerError, FormatError, Place};
pub use layout::Layout;
pub use metadata::{FromValue, Metadata, MetadataError};
pub use parse::Header;
pub use reader::GgufFile;
pub(crate) use reader::map_file;
pub use tensor_info::TensorInfo;
pub use value::{Array, Strings, Value, ValueType};
pub use writer::Writer;

/// The metadata key that sets the alignment of tensor data.
pub const ALIGNMENT_KEY: &str = "general.alignment";

/// Alignment of tensor data where the file names none.
pub const DEFAULT_ALIGNMENT: u64 = 32;

/// Longest tensor name in bytes: `GGML_MAX_NAME` less its terminating zero.
pub const MAX_TENSOR_NAME: usize = 63;

/// Longest metadata key in bytes, by the GGUF specification.
pub const MAX_KEY: usize = 65535;

/// Most dimensions of a tensor: `GGML_MAX_DIMS`.
pub const MAX_DIMENSIONS: usize = 4;

/// Deepest nesting of metadata arrays that is read or written; llama.cpp itself reads no nested array.
pub const MAX_ARRAY_DEPTH: usize = 4;
