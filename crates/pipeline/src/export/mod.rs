//! A checkpoint as the tensors and metadata of a GGUF file.

mod metadata;
mod rows;
mod tensors;
mod write;

pub use metadata::{Provenance, metadata};
pub use rows::RowReader;
pub use tensors::{ExportTensor, Origin, export_tensors};
pub use write::{TensorReport, write_tensors};
