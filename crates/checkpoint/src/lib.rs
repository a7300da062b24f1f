//! A Hugging Face checkpoint directory, in and out.
//!
//! [`Checkpoint::open`] maps `model.safetensors` (or the shards that `model.safetensors.index.json` names),
//! checks every header before anything is allocated or indexed by it, and parses `config.json` into a typed
//! [`Config`]. Tensors are read one at a time as f32; a NaN or an infinity is an error naming the tensor.
//! [`CheckpointWriter`] writes the same layout, whole or not at all. Weights may be [`packed`] integers.
//!
//! A checkpoint is untrusted input. The rules for safetensors follow the format's description in the
//! safetensors repository (`README.md`, "Format") and its reference reader `safetensors/src/tensor.rs`.

mod checkpoint;
pub mod config;
pub mod convert;
mod dtype;
mod error;
mod header;
mod index;
mod json_file;
pub mod packed;
mod shard;
mod side_files;
mod text_part;
pub mod writer;

pub use checkpoint::{Checkpoint, TensorInfo};
pub use config::Config;
pub use dtype::Dtype;
pub use error::CheckpointError;
pub use header::{Header, HeaderError, MAX_HEADER_BYTES, TensorEntry};
pub use index::IndexError;
pub use side_files::SIDE_FILES;
pub use writer::{CheckpointPlan, CheckpointWriter, ExistingTarget, TensorSpec, WriteError, check_target};
