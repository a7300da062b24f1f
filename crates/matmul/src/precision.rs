//! What values are while they are multiplied.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::bf16;

/// The format of a product's operands. Sums are f32 either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// As they are.
    #[default]
    F32,
    /// Rounded to bfloat16, on processors that multiply it ([`Precision::is_native`]); elsewhere a product of this precision panics.
    Bf16,
}

/// A name that is no precision's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrecisionError(String);

impl Precision {
    /// Both.
    pub const ALL: [Self; 2] = [Self::F32, Self::Bf16];

    /// Whether this processor has instructions for it: for bfloat16 AVX512_BF16 (AMD Zen 4, Intel Cooper Lake and Sapphire Rapids,
    /// and later).
    pub fn is_native(self) -> bool {
        match self {
            Self::F32 => true,
            Self::Bf16 => bf16::is_native(),
        }
    }

    /// The one that this processor multiplies fastest.
    pub fn fastest() -> Self {
        if Self::Bf16.is_native() { Self::Bf16 } else { Self::F32 }
    }

    /// `f32` or `bf16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Precision {
    type Err = PrecisionError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|precision| precision.name() == name);
        found.ok_or_else(|| PrecisionError(name.to_owned()))
    }
}

impl fmt::Display for PrecisionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no precision is called {:?}: f32 or bf16", self.0)
    }
}

impl std::error::Error for PrecisionError {}
