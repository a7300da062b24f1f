//! Products of bfloat16 with sums in f32: 1.5 to 2.3 times the rate of f32 on a Zen 4 (`examples/rate.rs`).
//!
//! The operands are rounded to nearest even while they are packed into the order of the inner loop (panels of a block of the inner
//! dimension, as in Goto and van de Geijn 2008, "Anatomy of high-performance matrix multiplication", section 4). The instruction adds
//! the products of two neighbouring inner indices to an f32 and takes subnormals as zero.

#[cfg(target_arch = "x86_64")]
mod kernel;
#[cfg(target_arch = "x86_64")]
mod pack;
#[cfg(target_arch = "x86_64")]
mod panels;
#[cfg(target_arch = "x86_64")]
mod parallel;
#[cfg(target_arch = "x86_64")]
mod parts;
#[cfg(target_arch = "x86_64")]
mod serial;

#[cfg(target_arch = "x86_64")]
pub(crate) use {parallel::product_at, parts::parts_of_product, serial::multiply_at};

#[cfg(not(target_arch = "x86_64"))]
pub(crate) use elsewhere::{multiply_at, parts_of_product, product_at};

use crate::Onto;

/// Inner indices packed at a time: a panel of the right operand, 24 KiB, stays in the first-level cache.
#[cfg(target_arch = "x86_64")]
const DEPTH: usize = 256;

/// Where a product goes.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub out: *mut f32,
    pub row_stride: usize,
    pub onto: Onto,
    pub factor: f32,
}

/// Whether the processor has the instructions.
pub(crate) fn is_native() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[cfg(not(target_arch = "x86_64"))]
mod elsewhere {
    use super::Target;
    use crate::{Operand, Part};

    /// Never called: the precision is not native.
    pub unsafe fn multiply_at(_: Target, _: Operand<'_>, _: &[Operand<'_>]) {
        unreachable!("bfloat16 products are not native here")
    }

    /// Never called: the precision is not native.
    pub unsafe fn parts_of_product<T: Send>(
        _: Operand<'_>,
        _: Operand<'_>,
        _: Vec<(Part, T)>,
        _: impl Fn(T, &[f32]) + Sync,
    ) {
        unreachable!("bfloat16 products are not native here")
    }

    /// Never called: the precision is not native.
    pub unsafe fn product_at(_: Target, _: Operand<'_>, _: &[Operand<'_>]) {
        unreachable!("bfloat16 products are not native here")
    }
}
