//! Patterns over tensor names: what `--tensor-type` and `--keep` take.

use std::fmt;
use std::str::FromStr;

use regex::{Regex, RegexBuilder};
use slmc_gguf::TensorType;

use super::PlanError;

/// A regular expression over GGUF tensor names. It may match anywhere in the name; case does not matter (llama-quantize
/// lowers its patterns).
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// Whether it matches somewhere in `name`.
    pub fn matches(&self, name: &str) -> bool {
        self.0.is_match(name)
    }

    /// The text it was made from.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for Pattern {
    type Err = PlanError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        RegexBuilder::new(text)
            .case_insensitive(true)
            .build()
            .map(Self)
            .map_err(|source| PlanError::Pattern { pattern: text.to_owned(), source: Box::new(source) })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `pattern=type`, for example `attn_v=q6_k` or `blk\.(0|1)\.=q8_0`.
#[derive(Clone, Debug)]
pub struct TypeOverride {
    /// Which tensors.
    pub pattern: Pattern,
    /// What they are stored in.
    pub ty: TensorType,
}

impl fmt::Display for TypeOverride {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.pattern, self.ty)
    }
}

impl FromStr for TypeOverride {
    type Err = PlanError;

    /// The type stands after the last `=`, since a regular expression may contain one and a type does not.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.rsplit_once('=') {
            Some((pattern, ty)) if !pattern.is_empty() && !ty.is_empty() => {
                Ok(Self { pattern: pattern.parse()?, ty: ty.trim().parse()? })
            }
            _ => Err(PlanError::OverrideSyntax { text: text.to_owned() }),
        }
    }
}

/// The options that take patterns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternOption {
    /// `--tensor-type`.
    TensorType,
    /// `--keep`.
    Keep,
}

impl fmt::Display for PatternOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::TensorType => "--tensor-type",
            Self::Keep => "--keep",
        })
    }
}
