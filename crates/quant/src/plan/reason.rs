//! Why a tensor gets its type.

use std::fmt;

use serde::{Deserialize, Serialize};
use slmc_gguf::TensorType;

use crate::mix::{Mix, Rule};

/// Why a tensor gets its type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reason {
    /// A rule of the mix.
    Mix {
        /// The mix.
        mix: Mix,
        /// Its rule.
        rule: Rule,
    },
    /// `--tensor-type`.
    Override {
        /// The pattern that matched.
        pattern: String,
        /// What the mix would have stored.
        #[serde(with = "crate::plan::type_name")]
        instead_of: TensorType,
    },
    /// `--keep`.
    Kept {
        /// The pattern that matched.
        pattern: String,
        /// What the mix would have stored.
        #[serde(with = "crate::plan::type_name")]
        instead_of: TensorType,
    },
    /// What it costs in bytes and in measured loss, beside all other tensors.
    MeasuredCost,
    /// A vector: too small to be worth rounding.
    OneDimensional,
    /// A matrix that no mix rounds, such as a norm.
    NeverQuantized,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mix { mix, rule } => write!(f, "{mix}: {rule}"),
            Self::Override { pattern, instead_of } => {
                write!(f, "--tensor-type `{pattern}`, not {instead_of}")
            }
            Self::Kept { pattern, instead_of } => write!(f, "--keep `{pattern}`, not {instead_of}"),
            Self::MeasuredCost => f.write_str("measured cost"),
            Self::OneDimensional => f.write_str("a vector"),
            Self::NeverQuantized => f.write_str("never quantized"),
        }
    }
}
