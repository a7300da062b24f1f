//! What a student is trained towards.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How far the student's prediction q is from the teacher's p, both softmaxes of logits over the temperature τ.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Divergence {
    /// τ² KL(p ‖ q) (Hinton, Vinyals and Dean 2015, arXiv:1503.02531, section 2).
    ForwardKl,
    /// τ² KL(q ‖ p): the student keeps to what the teacher finds likely (Gu et al. 2023, arXiv:2306.08543).
    ReverseKl,
    /// τ² (β KL(p ‖ m) + (1 − β) KL(q ‖ m)), m = β p + (1 − β) q (Agarwal et al. 2023, arXiv:2306.13649, equation 1).
    JensenShannon {
        /// β, strictly between 0 and 1.
        beta: f32,
    },
    /// τ² KL(p ‖ λ p + (1 − λ) q) (Ko et al. 2024, arXiv:2402.03898, equation 4, where λ is α).
    SkewKl {
        /// λ, from 0 (KL) to less than 1.
        skew: f32,
    },
    /// The mean over the vocabulary of squared differences of the logits, without a temperature.
    LogitMse,
}

impl Divergence {
    /// The names that [`FromStr`] reads.
    pub const NAMES: &str = "forward-kl, reverse-kl, js[:BETA], skew-kl[:SKEW] or logit-mse";
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForwardKl => f.write_str("forward-kl"),
            Self::ReverseKl => f.write_str("reverse-kl"),
            Self::JensenShannon { beta } => write!(f, "js:{beta}"),
            Self::SkewKl { skew } => write!(f, "skew-kl:{skew}"),
            Self::LogitMse => f.write_str("logit-mse"),
        }
    }
}

impl FromStr for Divergence {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, number) = match text.split_once(':') {
            Some((name, number)) => (name, Some(number)),
            None => (text, None),
        };
        let share = |default: f32, least: f32| -> Result<f32, String> {
            let Some(number) = number else { return Ok(default) };
            let share: f32 = number.parse().map_err(|_| format!("{number:?} is no number"))?;
            match share >= least && share < 1.0 && (share > 0.0 || least < f32::MIN_POSITIVE) {
                true => Ok(share),
                false => Err(format!("{text}: expected a number between 0 and 1")),
            }
        };
        let found = match name {
            "js" => Self::JensenShannon { beta: share(0.5, f32::MIN_POSITIVE)? },
            "skew-kl" => Self::SkewKl { skew: share(0.1, 0.0)? },
            _ if number.is_some() => return Err(format!("{name} takes no number")),
            "forward-kl" | "kl" => Self::ForwardKl,
            "reverse-kl" => Self::ReverseKl,
            "logit-mse" => Self::LogitMse,
            _ => return Err(format!("unknown loss {name:?}; expected {}", Self::NAMES)),
        };
        Ok(found)
    }
}

/// (1 − α) · divergence from the teacher + α · cross-entropy with the text's next token, the mean over tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Objective {
    /// How the teacher is followed.
    pub divergence: Divergence,
    /// τ > 0: logits are divided by it before both softmaxes. Cross-entropy is without it.
    pub temperature: f32,
    /// α, the weight of the hard labels, 0 to 1. At 1 no teacher is needed.
    pub alpha: f32,
}

impl Default for Objective {
    fn default() -> Self {
        Self { divergence: Divergence::ForwardKl, temperature: 2.0, alpha: 0.1 }
    }
}

impl Objective {
    /// Whether the teacher's predictions enter.
    pub fn needs_teacher(&self) -> bool {
        self.alpha < 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for name in ["forward-kl", "reverse-kl", "js:0.25", "skew-kl:0.1", "logit-mse"] {
            assert_eq!(name.parse::<Divergence>().unwrap().to_string(), name);
        }
        assert_eq!("js".parse(), Ok(Divergence::JensenShannon { beta: 0.5 }));
        assert_eq!("skew-kl:0".parse(), Ok(Divergence::SkewKl { skew: 0.0 }));
        for wrong in ["js:0", "js:1", "js:x", "skew-kl:1", "skew-kl:-0.1", "forward-kl:2", "mse"] {
            assert!(wrong.parse::<Divergence>().is_err(), "{wrong}");
        }
    }
}
