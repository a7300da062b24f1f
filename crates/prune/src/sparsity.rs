//! How much is pruned.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How many weights become zero, and where.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sparsity {
    /// This share of the weights, 0 to 1.
    Share(f64),
    /// Of every `of` neighbours in a row, all but `kept`.
    Pattern {
        /// N of N:M.
        kept: usize,
        /// M of N:M.
        of: usize,
    },
}

impl Sparsity {
    /// Pruned weights among the first `n` of a sequence that is pruned evenly: of the whole, the share to the nearest weight.
    /// Differences of two give exact counts of the parts between.
    pub fn pruned_of(self, n: usize) -> usize {
        match self {
            Self::Share(share) => (share * n as f64).round() as usize,
            Self::Pattern { kept, of } => n / of * (of - kept),
        }
    }

    /// The share that is pruned.
    pub fn share(self) -> f64 {
        match self {
            Self::Share(share) => share,
            Self::Pattern { kept, of } => 1.0 - kept as f64 / of as f64,
        }
    }

    /// Whether nothing is pruned.
    pub fn is_none(self) -> bool {
        self.share() == 0.0
    }
}

impl FromStr for Sparsity {
    type Err = String;

    /// `0.5`, `50%` or `2:4`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || "expected a share from 0 up to 1 such as 0.5 or 50%, or a pattern such as 2:4".to_owned();
        if let Some((kept, of)) = text.split_once(':') {
            let (kept, of) =
                (kept.trim().parse().map_err(|_| wrong())?, of.trim().parse().map_err(|_| wrong())?);
            return match (kept, of) {
                (1.., 2..=64) if kept < of => Ok(Self::Pattern { kept, of }),
                _ => {
                    Err("a pattern N:M keeps N of every M weights, with N from 1 to M − 1 and M up to 64"
                        .into())
                }
            };
        }
        let (number, unit) = text.strip_suffix('%').map_or((text, 1.0), |percent| (percent, 100.0));
        let share = number.trim().parse::<f64>().map_err(|_| wrong())? / unit;
        if (0.0..1.0).contains(&share) { Ok(Self::Share(share)) } else { Err(wrong()) }
    }
}

impl fmt::Display for Sparsity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share(share) => write!(f, "{share}"),
            Self::Pattern { kept, of } => write!(f, "{kept}:{of}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_are_read_and_nonsense_is_refused() {
        assert_eq!("50%".parse(), Ok(Sparsity::Share(0.5)));
        assert_eq!("0.25".parse(), Ok(Sparsity::Share(0.25)));
        assert_eq!("2:4".parse(), Ok(Sparsity::Pattern { kept: 2, of: 4 }));
        for wrong in ["1", "100%", "-0.1", "4:4", "0:4", "5:4", "x", "2:", "nan"] {
            assert!(wrong.parse::<Sparsity>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn counts_of_parts_add_up() {
        for share in [0.0, 0.3, 0.5, 0.617] {
            let sparsity = Sparsity::Share(share);
            let parts: usize =
                (0..7).map(|i| sparsity.pruned_of((i + 1) * 33) - sparsity.pruned_of(i * 33)).sum();
            assert_eq!(parts, sparsity.pruned_of(231));
        }
    }
}
