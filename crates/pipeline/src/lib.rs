//! Streams a checkpoint block by block through calibration, compression and export.
//!
//! Flags resolve to a typed plan before any weight is read ([`jobs::quantize::Prepared`]); then one walk over the blocks
//! gathers what a method needs ([`walker`]), and one pass over the tensors rounds and writes them ([`export`]). Rescaling
//! methods leave only vectors behind ([`rescaling`]), so transforming and rounding compose.

pub mod allocation;
pub mod awq;
pub mod batches;
mod error;
pub mod export;
pub mod frames;
pub mod gptq;
pub mod hidden;
pub mod imatrix;
pub mod jobs;
pub mod memory;
pub mod model_file;
mod modelfile;
pub mod moments;
pub mod packing;
mod precision;
pub mod progress;
pub mod pruning;
pub mod rescaling;
pub mod scores;
pub mod sensitivity;
pub mod structured;
pub mod walker;
pub mod work;
pub mod zeros;

pub use error::PipelineError;
pub use precision::{PrecisionUnavailable, choose_precision};
pub use slmc_matmul::Precision;
