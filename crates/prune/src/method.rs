//! How the weights to prune are chosen.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What makes a weight dispensable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// It is small.
    Magnitude,
    /// It is small times the norm of its input (Sun et al. 2023, arXiv 2306.11695).
    Wanda,
    /// The others can make up for it, and do (Frantar and Alistarh 2023, arXiv 2301.00774).
    SparseGpt,
}

impl Method {
    /// Every method.
    pub const ALL: [Self; 3] = [Self::Magnitude, Self::Wanda, Self::SparseGpt];

    /// The name that `--method` takes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Magnitude => "magnitude",
            Self::Wanda => "wanda",
            Self::SparseGpt => "sparsegpt",
        }
    }

    /// Whether the method reads calibration text.
    pub const fn needs_calibration(self) -> bool {
        !matches!(self, Self::Magnitude)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|method| method.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| format!("unknown method; available are {}", known()))
    }
}
