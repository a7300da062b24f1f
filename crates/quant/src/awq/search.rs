//! The search for scales.

use serde::{Deserialize, Serialize};

use super::scales::{Family, candidate_scales};
use crate::QuantError;

/// What is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchOptions {
    /// Ratios tried in each family: 0, 1/n … (n − 1)/n, as in the released search, where n is 20.
    pub grid_points: usize,
    /// Families tried. [`Family::ActivationOverWeight`] needs the weights' statistics.
    pub families: Vec<Family>,
}

impl Default for SearchOptions {
    /// The paper's: 20 points of s_X^α.
    fn default() -> Self {
        Self { grid_points: 20, families: vec![Family::Activation] }
    }
}

/// One point of the search.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// How the ratio becomes scales.
    pub family: Family,
    /// α, from 0 to 1.
    pub ratio: f32,
}

impl Candidate {
    /// No scaling.
    pub const IDENTITY: Self = Self { family: Family::Activation, ratio: 0.0 };
}

/// The best point found.
#[derive(Clone, Debug, PartialEq)]
pub struct Best {
    /// Which point.
    pub candidate: Candidate,
    /// Its scales, `[d_in]`.
    pub scales: Vec<f32>,
    /// The objective there; never above `unscaled_loss`.
    pub loss: f64,
    /// The objective without scaling.
    pub unscaled_loss: f64,
    /// How often the objective was asked.
    pub evaluations: usize,
}

/// A search that failed. `E` is the objective's error.
#[derive(Debug, thiserror::Error)]
pub enum SearchError<E> {
    /// The objective failed.
    #[error(transparent)]
    Objective(E),
    /// Statistics that no scales can be made of.
    #[error(transparent)]
    Statistics(#[from] QuantError),
    /// Even without scaling the objective is no finite number.
    #[error("without scaling, the output error is {loss}")]
    NotFinite {
        /// The objective.
        loss: f64,
    },
    /// A family was asked for whose statistics are missing.
    #[error("scales by activation over weight need the weights' mean absolute values")]
    NoWeights,
}

/// Tries all candidates and returns the one with the smallest `objective`; equal ones go to the first, and the first is the
/// identity, so that scaling is never worse than none on this objective.
///
/// `objective` gets scales (`[d_in]`) and returns the output error of the consumers (or of the block around them) when these
/// are scaled, rounded and scaled back ([`super::round_scaled`]). A candidate for which it returns no finite number, such as
/// scales that overflow a grid's f16 fields, is passed over.
///
/// # Errors
/// Those of [`SearchError`].
pub fn search<E>(
    options: &SearchOptions,
    act_mean_abs: &[f32],
    weight_mean_abs: Option<&[f32]>,
    mut objective: impl FnMut(&[f32]) -> Result<f64, E>,
) -> Result<Best, SearchError<E>> {
    let ones = vec![1.0; act_mean_abs.len()];
    let unscaled_loss = objective(&ones).map_err(SearchError::Objective)?;
    if !unscaled_loss.is_finite() {
        return Err(SearchError::NotFinite { loss: unscaled_loss });
    }
    let mut best = Best {
        candidate: Candidate::IDENTITY,
        scales: ones,
        loss: unscaled_loss,
        unscaled_loss,
        evaluations: 1,
    };
    for &family in &options.families {
        let weights = match family {
            Family::Activation => None,
            Family::ActivationOverWeight => Some(weight_mean_abs.ok_or(SearchError::NoWeights)?),
        };
        for point in 0..options.grid_points {
            let candidate = Candidate { family, ratio: point as f32 / options.grid_points as f32 };
            if candidate == Candidate::IDENTITY {
                continue;
            }
            let scales = candidate_scales(act_mean_abs, weights, candidate.ratio)?;
            let loss = objective(&scales).map_err(SearchError::Objective)?;
            best.evaluations += 1;
            if loss < best.loss {
                best = Best { candidate, scales, loss, ..best };
            }
        }
    }
    Ok(best)
}
