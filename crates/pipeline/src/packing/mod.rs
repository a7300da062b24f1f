//! A checkpoint whose linear layers become packed integers, in and out in Hugging Face's own layout.
//!
//! What is rounded and how is the plan's ([`slmc_quant::IntPlan`]); how integers lie in the file is
//! `slmc_checkpoint::packed`'s; here tensors travel from one checkpoint to the other.

mod rounder;
mod tensors;
mod write;
mod writer;

pub use rounder::PackRounder;
pub use tensors::{PackTensors, pack_tensors};
pub use write::write_tensors;
pub use writer::PackedWriter;
