//! How one tensor's values are stored, in whatever container.

use std::fmt;

use serde::{Serialize, Serializer};
use slmc_checkpoint::Dtype;
use slmc_gguf::TensorType;

use crate::IntScheme;

/// How a tensor's values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredType {
    /// A type of GGUF; F32, F16 and BF16 are the same in every container.
    Ggml(TensorType),
    /// Packed integers.
    Int(IntScheme),
}

impl StoredType {
    /// The type of GGUF that a checkpoint's element type is.
    pub const fn as_it_is(dtype: Dtype) -> TensorType {
        match dtype {
            Dtype::F16 => TensorType::F16,
            Dtype::BF16 => TensorType::BF16,
            Dtype::F32 | Dtype::I32 | Dtype::I64 => TensorType::F32,
        }
    }
}

impl From<TensorType> for StoredType {
    fn from(ty: TensorType) -> Self {
        Self::Ggml(ty)
    }
}

impl fmt::Display for StoredType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ggml(ty) => ty.fmt(f),
            Self::Int(scheme) => scheme.fmt(f),
        }
    }
}

impl Serialize for StoredType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Ggml(ty) => super::type_name::serialize(ty, serializer),
            Self::Int(scheme) => scheme.serialize(serializer),
        }
    }
}
