//! Weights as small integers, packed into 32-bit words: the `pack-quantized` layout of compressed-tensors, which
//! llm-compressor writes and transformers and vLLM load.
//!
//! In place of `X.weight` (`[d_out, d_in]`) stand
//!
//! * `X.weight_packed`, I32 `[d_out, ⌈d_in · bits / 32⌉]`: the codes of each row, see [`bits`];
//! * `X.weight_scale`, the checkpoint's dtype, `[d_out, groups]`;
//! * `X.weight_zero_point`, I32 `[⌈d_out · bits / 32⌉, groups]`, packed down the columns; only where not symmetric;
//! * `X.weight_shape`, I64 `[2]`: d_out and d_in.
//!
//! A weight is scale · (code − zero), where a symmetric zero is 2^(bits − 1), computed in the scale's dtype.
//!
//! Source: compressed-tensors 0.20, `compressors/pack_quantized/{base,helpers}.py`. Releases that packed three bits ten to
//! a word, and columns in another order (`weight_g_idx`), are gone there too.

pub mod bits;
mod config;
mod scheme;
mod tensor;

pub use config::quantization_config;
pub(crate) use config::read as read_config;
pub use scheme::{GroupSize, PackScheme};
pub(crate) use tensor::find as find_packed;
pub use tensor::{PackedError, PackedTensor};

/// What follows a module's name, in place of `weight`.
pub mod part {
    /// The codes.
    pub const PACKED: &str = "weight_packed";
    /// The scales.
    pub const SCALE: &str = "weight_scale";
    /// The zero points.
    pub const ZERO_POINT: &str = "weight_zero_point";
    /// The shape.
    pub const SHAPE: &str = "weight_shape";
    /// The group of each column, in files of earlier releases.
    pub(crate) const GROUP_INDEX: &str = "weight_g_idx";
}
