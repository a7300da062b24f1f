//! A checkpoint as the tensors and metadata of a GGUF file.

mod errors;
mod metadata;
mod rows;
mod tensors;
mod write;

pub use errors::{ErrorMeter, Errors, OutputError, OutputErrorMeter, Rows};
pub use metadata::{Provenance, metadata};
pub use rows::RowReader;
pub(crate) use tensors::model_facts;
pub use tensors::{ExportTensor, Origin, export_tensors};
pub use write::{TensorReport, write_tensors};
