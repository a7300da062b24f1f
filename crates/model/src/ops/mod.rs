//! What the decoder computes with. Every operation stands here twice: on burn tensors, for any device, and as a
//! kernel over f32 slices for the cpu device, where burn's own are not fused or not parallel. A test holds the
//! two together.
//!
//! Kernels divide their work by shape, never by the number of threads, and no sum runs across tasks: results
//! are the same bits with any thread pool.

mod attention;
mod attention_kernel;
mod exponential;
mod gated;
mod lanes;
mod linear;
mod matrix;
mod rms_norm;
mod rope;

pub use attention::{AttentionShape, attention};
pub use gated::gated;
pub use linear::{linear, linear_onto};
pub use matrix::Matrix;
pub use rms_norm::rms_norm;
pub use rope::{RopeTables, rope};

/// A vector of `len` values for a kernel that writes every one of them.
///
/// Zeroing first would cost as much as the fastest kernels here.
///
/// # Safety
/// The caller writes all `len` values before reading any.
#[allow(clippy::uninit_vec)] // the point of it: see above
unsafe fn uninitialized(len: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(len);
    // SAFETY: the capacity is there; the caller writes before it reads.
    unsafe { values.set_len(len) };
    values
}

/// A pointer that tasks writing disjoint parts may share.
#[derive(Clone, Copy)]
struct Shared(*mut f32);

// SAFETY: users write disjoint elements only; each says why where it does.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn get(self) -> *mut f32 {
        self.0
    }
}
