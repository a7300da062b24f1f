//! Pruning: which weights become zero, and what the others become for it. Sees matrices and statistics, never a model.
//!
//! * [`sparsity`]: how much is pruned, exactly: a share, or N of every M kept;
//! * [`plan`]: every tensor and how many of its weights become zero, before any weight is read;
//! * [`importance`]: what a weight is worth by itself: its magnitude, or that times its input's norm (Wanda);
//! * [`budget`], [`owl`], [`smallest`]: how much of it falls to each tensor, where not all are pruned alike;
//! * [`select`]: the mask that takes the least important ones, by row, by tensor or by pattern;
//! * [`sparsegpt`]: masks chosen while errors are fed forward under a Hessian;
//! * [`refit`]: the weights that remain, solved again under the mask, and exchanged with pruned ones where that lessens the loss;
//! * [`structured`]: whole channels, heads and blocks go, so that a smaller model of the same architecture stays.
//!
//! Weights are row-major `[d_out, d_in]` everywhere; "columns" is d_in.

pub mod budget;
mod error;
pub mod importance;
mod mask;
mod method;
pub mod owl;
pub mod plan;
pub mod refit;
pub mod select;
pub mod smallest;
pub mod sparsegpt;
pub mod sparsity;
pub mod structured;

pub use error::PruneError;
pub use mask::Mask;
pub use method::Method;
pub use plan::{LayerSparsity, PrunePlan};
pub use select::Scope;
pub use sparsity::Sparsity;
