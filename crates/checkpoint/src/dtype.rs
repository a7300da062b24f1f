//! The element types slmc reads from and writes to safetensors files.

use std::fmt;

/// How the elements of a safetensors tensor are stored (little-endian).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE 754 binary16.
    F16,
    /// The upper half of an IEEE 754 binary32.
    BF16,
    /// IEEE 754 binary32.
    F32,
    /// Signed 32-bit integers: packed codes, see [`crate::packed`].
    I32,
    /// Signed 64-bit integers: shapes.
    I64,
}

impl Dtype {
    /// Every type that can be read and written.
    pub const ALL: [Dtype; 5] = [Dtype::F16, Dtype::BF16, Dtype::F32, Dtype::I32, Dtype::I64];

    /// The types that weights are stored in as they are.
    pub const FLOATS: [Dtype; 3] = [Dtype::F16, Dtype::BF16, Dtype::F32];

    /// Whether it is one of [`Dtype::FLOATS`].
    pub const fn is_float(self) -> bool {
        matches!(self, Dtype::F16 | Dtype::BF16 | Dtype::F32)
    }

    /// Bytes of one element.
    pub const fn bytes(self) -> usize {
        match self {
            Dtype::F16 | Dtype::BF16 => 2,
            Dtype::F32 | Dtype::I32 => 4,
            Dtype::I64 => 8,
        }
    }

    /// The spelling of safetensors headers, for example `BF16`.
    pub const fn name(self) -> &'static str {
        match self {
            Dtype::F16 => "F16",
            Dtype::BF16 => "BF16",
            Dtype::F32 => "F32",
            Dtype::I32 => "I32",
            Dtype::I64 => "I64",
        }
    }

    /// The spelling of `config.json` (`dtype`, formerly `torch_dtype`), for example `bfloat16`.
    pub const fn torch_name(self) -> &'static str {
        match self {
            Dtype::F16 => "float16",
            Dtype::BF16 => "bfloat16",
            Dtype::F32 => "float32",
            Dtype::I32 => "int32",
            Dtype::I64 => "int64",
        }
    }

    /// The type with this safetensors spelling, if slmc reads it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|d| d.name() == name)
    }

    /// The type of weights with this `config.json` spelling, if slmc reads it.
    pub fn from_torch_name(name: &str) -> Option<Self> {
        Self::FLOATS.into_iter().find(|d| d.torch_name() == name)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
