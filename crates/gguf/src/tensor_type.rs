//! The ggml tensor types slmc reads and writes: names, ids and block sizes.
//!
//! Source: `enum ggml_type` and `type_traits` in ggml (`ggml.h`, `ggml.c`, `ggml-common.h`).

use std::fmt;
use std::str::FromStr;

/// Weights in a super-block of the K-quants and IQ4_XS.
pub const QK_K: usize = 256;

/// How the values of one tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(non_camel_case_types, missing_docs)] // the field's own spelling
pub enum TensorType {
    F32,
    F16,
    BF16,
    Q8_0,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
    IQ4_NL,
    IQ4_XS,
}

use TensorType::*;

impl TensorType {
    /// Every type, in the order of the enum.
    pub const ALL: [TensorType; 15] =
        [F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS];

    /// (name, ggml id, weights a block, bytes a block).
    const fn facts(self) -> (&'static str, u32, usize, usize) {
        match self {
            F32 => ("f32", 0, 1, 4),
            F16 => ("f16", 1, 1, 2),
            BF16 => ("bf16", 30, 1, 2),
            Q4_0 => ("q4_0", 2, 32, 18),
            Q4_1 => ("q4_1", 3, 32, 20),
            Q5_0 => ("q5_0", 6, 32, 22),
            Q5_1 => ("q5_1", 7, 32, 24),
            Q8_0 => ("q8_0", 8, 32, 34),
            Q2_K => ("q2_k", 10, QK_K, 84),
            Q3_K => ("q3_k", 11, QK_K, 110),
            Q4_K => ("q4_k", 12, QK_K, 144),
            Q5_K => ("q5_k", 13, QK_K, 176),
            Q6_K => ("q6_k", 14, QK_K, 210),
            IQ4_NL => ("iq4_nl", 20, 32, 18),
            IQ4_XS => ("iq4_xs", 23, QK_K, 136),
        }
    }

    /// ggml's name in lower case, for example `q4_k`.
    pub const fn name(self) -> &'static str {
        self.facts().0
    }

    /// The id GGUF files store.
    pub const fn ggml_id(self) -> u32 {
        self.facts().1
    }

    /// The type with this GGUF id, if slmc knows it.
    pub fn from_ggml_id(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.ggml_id() == id)
    }

    /// Weights in one block; a row must be a whole number of blocks.
    pub const fn block_len(self) -> usize {
        self.facts().2
    }

    /// Bytes of one block.
    pub const fn block_bytes(self) -> usize {
        self.facts().3
    }

    /// Bytes of `n` weights; `None` where `n` is no whole number of blocks or the result overflows.
    pub const fn bytes_for(self, n: usize) -> Option<usize> {
        if !n.is_multiple_of(self.block_len()) {
            return None;
        }
        (n / self.block_len()).checked_mul(self.block_bytes())
    }

    /// Stored bits a weight, scales included.
    pub fn bits_per_weight(self) -> f64 {
        8.0 * self.block_bytes() as f64 / self.block_len() as f64
    }

    /// True for the block-quantized types, false for F32, F16 and BF16.
    pub const fn is_quantized(self) -> bool {
        !matches!(self, F32 | F16 | BF16)
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The given name is no tensor type that slmc knows.
#[derive(Debug, thiserror::Error)]
#[error("unknown tensor type `{0}`; known are {known}", known = TensorType::ALL.map(TensorType::name).join(", "))]
pub struct UnknownTensorType(pub String);

impl FromStr for TensorType {
    type Err = UnknownTensorType;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|t| t.name().eq_ignore_ascii_case(s))
            .ok_or_else(|| UnknownTensorType(s.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_are_unique_and_round_trip() {
        for t in TensorType::ALL {
            assert_eq!(TensorType::from_ggml_id(t.ggml_id()), Some(t));
            assert_eq!(t.name().parse::<TensorType>().unwrap(), t);
        }
        assert!("q9_k".parse::<TensorType>().is_err());
    }
}
