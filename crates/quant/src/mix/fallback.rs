//! What is stored where a type's blocks do not divide a row.

use std::fmt;

use serde::{Deserialize, Serialize};
use slmc_gguf::TensorType::{self, *};

/// A type that did not fit the columns, and the one taken for it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fallback {
    /// The type asked for.
    #[serde(with = "crate::plan::type_name")]
    pub wanted: TensorType,
    /// The type stored.
    #[serde(with = "crate::plan::type_name")]
    pub got: TensorType,
    /// d_in, which `wanted`'s block length does not divide.
    pub columns: usize,
}

impl Fallback {
    /// What the substitution costs, in bits a weight of this tensor (negative where it saves).
    pub fn extra_bits_per_weight(&self) -> f64 {
        self.got.bits_per_weight() - self.wanted.bits_per_weight()
    }
}

impl fmt::Display for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} columns are no multiple of {}'s {}: {} instead, {:+.2} bits a weight",
            self.columns,
            self.wanted,
            self.wanted.block_len(),
            self.got,
            self.extra_bits_per_weight()
        )
    }
}

/// The type to store a matrix with `columns` columns in, where `wanted` is asked for: itself if its block length divides
/// the columns, else the 32-wide type next to it, else F16.
///
/// Source: `tensor_type_fallback` in llama.cpp's `llama-quant.cpp`. One departure: there Q2_K and Q3_K become Q4_0, here IQ4_NL,
/// which has as many bits and rounds finer where most weights are. (It has no zero: see [`holding_zeros`].)
pub fn fit_columns(wanted: TensorType, columns: usize) -> TensorType {
    let fits = |ty: TensorType| columns.is_multiple_of(ty.block_len());
    if fits(wanted) {
        return wanted;
    }
    let narrow = match wanted {
        Q2_K | Q3_K => IQ4_NL,
        Q4_K => Q5_0,
        Q5_K => Q5_1,
        Q6_K => Q8_0,
        IQ4_XS => IQ4_NL,
        F32 | F16 | BF16 | Q8_0 | Q4_0 | Q4_1 | Q5_0 | Q5_1 | IQ4_NL => wanted,
    };
    if fits(narrow) { narrow } else { F16 }
}

/// The substitute for `wanted` that has a zero, where `got` has none and another of its size has.
pub fn holding_zeros(wanted: TensorType, got: TensorType) -> TensorType {
    match (wanted, got) {
        (Q3_K, IQ4_NL) => Q4_0,
        _ => got,
    }
}
