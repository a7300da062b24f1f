//! What the decoder computes with. Every operation stands here twice: on burn tensors, for any device, and as a
//! kernel over f32 slices for the cpu device, where burn's own are not fused or not parallel. A test holds the
//! two together.
//!
//! Kernels divide their work by shape, never by the number of threads, and no sum runs across tasks: results
//! are the same bits with any thread pool.
//!
//! Where the device wants gradients, kernels record their backward steps ([`gradient`]); burn's own operations have theirs.

mod attention;
mod attention_backward;
mod attention_kernel;
mod cache;
mod documents;
mod exponential;
mod gated;
mod gradient;
mod lanes;
mod linear;
mod logits;
mod matrix;
mod rms_norm;
mod rope;
mod stored;

pub use attention::{AttentionShape, attention, attention_continued};
pub use cache::KeyValueCache;
pub use documents::Documents;
pub use exponential::{exp, tanh};
pub use gated::{activated_times, gated};
pub use linear::{linear, linear_onto};
pub use logits::LogitTransform;
pub use matrix::Matrix;
pub use rms_norm::rms_norm;
pub use rope::{RopeTables, rope};
pub use stored::{StoredRows, multiply_decoded};

use documents::Sight;
