//! What a channel or a head is worth by itself.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Groups;
use crate::PruneError;
use crate::error::count_rows;

/// What makes a channel or a head dispensable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StructuredImportance {
    /// The others can make up for it: what its removal costs once they did, under the Hessian of its product's inputs
    /// (Kurtic et al., "ZipLM", arXiv 2302.04089, section 3.1).
    Hessian,
    /// The norm of its activations is small (after Muralidharan et al., "Minitron", arXiv 2407.14679, section 2.2).
    Activation,
    /// The variance of its activations times the squared norm of its output weights is small: its mean can go to a bias (An et al.,
    /// "FLAP", arXiv 2312.11983, section 3.2).
    Variance,
    /// The norm of its activations times that of its output weights is small: Wanda's measure, summed over the columns.
    Wanda,
    /// Its output weights are small.
    Magnitude,
    /// By lot: what any other choice must beat.
    Random,
}

impl StructuredImportance {
    /// Every one.
    pub const ALL: [Self; 6] =
        [Self::Hessian, Self::Activation, Self::Variance, Self::Wanda, Self::Magnitude, Self::Random];

    /// The name that `--importance` takes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hessian => "hessian",
            Self::Activation => "activation",
            Self::Variance => "variance",
            Self::Wanda => "wanda",
            Self::Magnitude => "magnitude",
            Self::Random => "random",
        }
    }

    /// Whether it depends on what runs through the model, and not on the weights alone.
    pub const fn needs_activations(self) -> bool {
        match self {
            Self::Hessian | Self::Activation | Self::Variance | Self::Wanda => true,
            Self::Magnitude | Self::Random => false,
        }
    }

    /// What each group is worth by itself; `None` for [`Self::Hessian`], under which it depends on which others went. `weights` are
    /// `[n, columns]`. Moments of `inputs` may be missing where no activations are needed. `place` and `seed` decide the lot.
    ///
    /// # Errors
    /// Lengths that do not fit.
    pub fn of_groups(
        self,
        weights: &[f32],
        groups: Groups,
        inputs: &InputMoments,
        (place, seed): (usize, u64),
    ) -> Result<Option<Vec<f64>>, PruneError> {
        let columns = groups.columns();
        count_rows("weights", weights, columns)?;
        self.check_moments(inputs, columns)?;
        let squares = || squared_norms(weights, columns);
        let of_column: Box<dyn Fn(usize) -> f64> = match self {
            Self::Hessian => return Ok(None),
            Self::Random => {
                let mut lot =
                    fastrand::Rng::with_seed(seed ^ (place as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
                return Ok(Some((0..groups.count()).map(|_| lot.f64()).collect()));
            }
            Self::Activation => Box::new(|k| inputs.second_moments[k]),
            Self::Variance => {
                let squares = squares();
                Box::new(move |k| squares[k] * inputs.variance(k))
            }
            Self::Wanda => {
                let squares = squares();
                Box::new(move |k| squares[k] * inputs.second_moments[k])
            }
            Self::Magnitude => {
                let squares = squares();
                Box::new(move |k| squares[k])
            }
        };
        Ok(Some((0..groups.count()).map(|group| groups.range(group).map(&of_column).sum()).collect()))
    }

    /// Refuses moments that do not fit so many columns, where any are needed.
    pub(super) fn check_moments(self, inputs: &InputMoments, expected: usize) -> Result<(), PruneError> {
        for (what, values) in [("means", &inputs.means), ("second moments", &inputs.second_moments)] {
            if self.needs_activations() && values.len() != expected {
                return Err(PruneError::Length { what, expected, found: values.len() });
            }
        }
        Ok(())
    }
}

impl fmt::Display for StructuredImportance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for StructuredImportance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|importance| importance.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| format!("unknown importance; available are {}", known()))
    }
}

/// Moments of a product's inputs, column by column.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InputMoments {
    /// E\[x\].
    pub means: Vec<f64>,
    /// E\[x²\].
    pub second_moments: Vec<f64>,
}

impl InputMoments {
    /// E\[x²\] − E\[x\]² of a column.
    pub fn variance(&self, column: usize) -> f64 {
        (self.second_moments[column] - self.means[column].powi(2)).max(0.0)
    }
}

/// Σ w² of every column.
pub fn squared_norms(weights: &[f32], columns: usize) -> Vec<f64> {
    let mut squares = vec![0.0; columns];
    for row in weights.chunks_exact(columns) {
        squares.iter_mut().zip(row).for_each(|(sum, w)| *sum += f64::from(*w) * f64::from(*w));
    }
    squares
}
