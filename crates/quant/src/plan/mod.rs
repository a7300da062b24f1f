//! The typed plan: every tensor with its type, its exact bytes and the reason, before any weight is read.

mod build;
mod integer;
mod pattern;
mod reason;
mod stored;
mod target;
mod zeros;

use serde::{Deserialize, Serialize};
use slmc_gguf::TensorType;

use crate::Method;
use crate::mix::{Fallback, Mix};

pub use build::PlanRequest;
pub use integer::{IntFacts, IntPlan, IntReason, IntTensor};
pub use pattern::{Pattern, PatternOption, TypeOverride};
pub use reason::Reason;
pub use stored::StoredType;
pub use target::{AllocatedType, Prediction, Target};
pub use zeros::{KeepZeros, PlannedZeros, ZerosLost};

/// What becomes of a model: stored in the output file and compared on resume, so it holds nothing but decisions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The mix the types come from; where they were chosen by measured cost, the one of the type that most weights have.
    pub mix: Mix,
    /// How the stored values are chosen.
    pub method: Method,
    /// Every tensor, in the order given.
    pub tensors: Vec<PlannedTensor>,
    /// Bytes of all tensors' data, without the container's metadata and padding.
    pub total_bytes: u64,
    /// Number of weights, vectors included.
    pub total_weights: u64,
    /// 8 · `total_bytes` / `total_weights`, as llama-quantize prints it.
    pub bits_per_weight: f64,
    /// What it is expected to lose, where the types were chosen by measured cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prediction: Option<Prediction>,
}

/// One tensor of a [`Plan`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedTensor {
    /// GGUF name.
    pub name: String,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// The type stored.
    #[serde(rename = "type", with = "type_name")]
    pub ty: TensorType,
    /// Bytes of its data.
    pub bytes: u64,
    /// Why this type.
    pub reason: Reason,
    /// Set where the type asked for did not fit the columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
    /// Its part of the plan's predicted KL divergence, in nats per token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl_divergence: Option<f64>,
    /// What becomes of its zeros, where it has been pruned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zeros: Option<PlannedZeros>,
}

impl PlannedTensor {
    /// Number of weights.
    pub fn weights(&self) -> u64 {
        self.shape.iter().map(|&d| d as u64).product()
    }

    /// Length of a row, d_in.
    pub fn columns(&self) -> usize {
        self.shape.last().copied().unwrap_or(0)
    }

    /// The reason and, where there are any, the fallback and what becomes of zeros, for a person to read.
    pub fn explanation(&self) -> String {
        let fallback = self.fallback.iter().map(|fallback| format!("; {fallback}"));
        let zeros = self.zeros.iter().map(|zeros| format!("; {zeros}"));
        std::iter::once(self.reason.to_string()).chain(fallback).chain(zeros).collect()
    }
}

impl Plan {
    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&PlannedTensor> {
        self.tensors.iter().find(|t| t.name == name)
    }

    /// What fallbacks cost the whole model, in bits a weight; 0 where every shape fits.
    pub fn fallback_bits_per_weight(&self) -> f64 {
        let extra: f64 = self
            .tensors
            .iter()
            .filter_map(|t| t.fallback.map(|f| f.extra_bits_per_weight() * t.weights() as f64))
            .sum();
        if self.total_weights == 0 { 0.0 } else { extra / self.total_weights as f64 }
    }
}

/// A plan that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A pattern is no regular expression.
    #[error("`{pattern}` is no regular expression: {source}")]
    Pattern {
        /// The pattern given.
        pattern: String,
        /// What is wrong with it.
        source: Box<regex::Error>,
    },
    /// `--tensor-type` was given something other than `pattern=type`.
    #[error("`{text}` is not of the form `pattern=type`, for example `attn_v=q6_k`")]
    OverrideSyntax {
        /// The text given.
        text: String,
    },
    /// `--tensor-type` names a type that does not exist.
    #[error(transparent)]
    UnknownType(#[from] slmc_gguf::UnknownTensorType),
    /// A pattern matches no tensor that could be quantized.
    #[error("{option} `{pattern}` matches no tensor that the mix would quantize")]
    NoMatch {
        /// The option it was given to.
        option: PatternOption,
        /// The pattern.
        pattern: String,
    },
    /// A pattern matches tensors, and earlier ones have decided all of them.
    #[error(
        "--tensor-type `{pattern}` decides nothing: {option} `{by}` has already decided every tensor it matches"
    )]
    Shadowed {
        /// The pattern without effect.
        pattern: String,
        /// The option of the pattern that comes before it.
        option: PatternOption,
        /// That pattern.
        by: String,
    },
    /// Columns that an integer grid's groups do not divide.
    #[error(
        "{tensor}: {columns} columns are no whole number of {scheme}'s groups; take --group-size {fitting}, or --keep it"
    )]
    Groups {
        /// The tensor.
        tensor: String,
        /// d_in.
        columns: usize,
        /// The scheme.
        scheme: String,
        /// Group sizes that would do.
        fitting: String,
    },
    /// Zeros are to stay in types that cannot hold them.
    #[error("--keep-zeros always: {0}")]
    Zeros(ZerosLost),
    /// Two tensors have the same name.
    #[error("tensor `{tensor}` is listed twice")]
    Duplicate {
        /// Its name.
        tensor: String,
    },
    /// A tensor without weights, or with more than fit 64 bits.
    #[error("tensor `{tensor}`: shape {shape:?} has no size that can be stored")]
    Shape {
        /// Its name.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
    },
}

/// Tensor types as their names in serialized plans.
pub mod type_name {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use slmc_gguf::TensorType;

    /// Writes the name.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(ty: &TensorType, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(ty.name())
    }

    /// Reads a name.
    ///
    /// # Errors
    /// The deserializer's; a name that no type has.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TensorType, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
