//! How the stored values are chosen.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A way of choosing which grid values to store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Round to nearest: each block's scales are fitted to its weights alone, without calibration.
    Rtn,
    /// Activation-aware weight quantization (Lin et al. 2023, arXiv 2306.00978): an exact rescaling of the float model
    /// that spares the channels with large activations, then rounding.
    Awq,
}

impl Method {
    /// Every method that works today.
    pub const ALL: [Self; 2] = [Self::Rtn, Self::Awq];

    /// Methods this program is designed for and cannot run yet.
    const PLANNED: [&str; 3] = ["imatrix", "gptq", "awq+gptq"];

    /// The name that `--method` takes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rtn => "rtn",
            Self::Awq => "awq",
        }
    }

    /// Whether the method reads calibration text.
    pub const fn needs_calibration(self) -> bool {
        match self {
            Self::Rtn => false,
            Self::Awq => true,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The given name is no method that runs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MethodError {
    /// A method of the design that is not there yet.
    #[error("method `{method}` is not supported yet; available are {}", available())]
    NotYet {
        /// The name given.
        method: String,
    },
    /// No method has this name.
    #[error("unknown method `{method}`; available are {}", available())]
    Unknown {
        /// The name given.
        method: String,
    },
}

fn available() -> String {
    Method::ALL.map(Method::name).join(", ")
}

impl FromStr for Method {
    type Err = MethodError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(method) = Self::ALL.into_iter().find(|m| m.name().eq_ignore_ascii_case(text)) {
            return Ok(method);
        }
        let method = text.to_owned();
        if Self::PLANNED.iter().any(|name| name.eq_ignore_ascii_case(text)) {
            Err(MethodError::NotYet { method })
        } else {
            Err(MethodError::Unknown { method })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_others_are_refused_by_name() {
        for method in Method::ALL {
            assert_eq!(method.to_string().to_uppercase().parse(), Ok(method));
        }
        let error = "gptq".parse::<Method>().unwrap_err();
        assert_eq!(error.to_string(), "method `gptq` is not supported yet; available are rtn, awq");
        let error = "gtpq".parse::<Method>().unwrap_err();
        assert_eq!(error.to_string(), "unknown method `gtpq`; available are rtn, awq");
    }
}
