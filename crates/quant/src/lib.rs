//! Grids (what values can be stored) and methods (how to choose them). Sees matrices, statistics and GGUF tensor names,
//! never a model.
//!
//! * [`mix`]: the GGUF mixes and the type each of them gives a tensor, as llama-quantize chooses;
//! * [`plan`]: every tensor with its type, exact bytes and the reason, before any weight is read;
//! * [`grid`]: what can be stored, encoded and decoded;
//! * [`int`]: grids of small integers in groups, beside GGUF's block formats;
//! * [`rtn`]: rounding to the grid, in parallel;
//! * [`loss`]: what the rounding lost, in the weights and in the outputs;
//! * [`awq`]: activation-aware rescaling of the float model, searched against an output error;
//! * [`gptq`]: rounding with error feedback under a Hessian;
//! * [`allocate`]: each tensor's type by bytes and loss.
//!
//! Weights are row-major `[d_out, d_in]` everywhere; "columns" is d_in.

pub mod allocate;
pub mod awq;
mod error;
pub mod gptq;
pub mod grid;
pub mod int;
pub mod loss;
mod method;
pub mod mix;
pub mod plan;
pub mod rtn;

pub use error::QuantError;
pub use grid::Grid;
pub use int::{IntGrid, IntScheme};
pub use method::{Effort, Method, MethodError, Rounding};
pub use mix::Mix;
pub use plan::{IntPlan, Plan, PlanError, PlanRequest, PlannedTensor};
pub use slmc_gguf::blocks::GramBlocks;
