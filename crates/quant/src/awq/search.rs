//! The search for scales.

use serde::{Deserialize, Serialize};

use super::scales::{Family, candidate_scales};
use crate::QuantError;

/// What is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchOptions {
    /// n: the ratios 0, 1/n … (n − 1)/n are tried in each family.
    pub grid_points: usize,
    /// How often the step is then halved around a family's best ratio, two more ratios each time.
    pub halvings: u32,
    /// Families tried. [`Family::ActivationOverWeight`] needs the weights' statistics.
    pub families: Vec<Family>,
}

impl SearchOptions {
    /// The released search of the paper: 20 ratios of s_X^α.
    pub fn paper() -> Self {
        Self { grid_points: 20, halvings: 0, families: vec![Family::Activation] }
    }
}

impl Default for SearchOptions {
    /// [`Family::ActivationOverWeight`] to the same resolution of 1/20 by 12 ratios: on GGUF grids that round by importance
    /// this family's best scales beat s_X^α's on the output error of held-out text, at every type tried.
    fn default() -> Self {
        Self { grid_points: 10, halvings: 1, families: vec![Family::ActivationOverWeight] }
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
    let identity = Candidate::IDENTITY;
    let mut best =
        Best { candidate: identity, scales: ones, loss: unscaled_loss, unscaled_loss, evaluations: 1 };
    for &family in &options.families {
        let weights = match family {
            Family::Activation => None,
            Family::ActivationOverWeight => Some(weight_mean_abs.ok_or(SearchError::NoWeights)?),
        };
        // the best ratio of this family, which need not be the best of all
        let mut center = (f64::INFINITY, 0.0);
        let mut consider = |ratio: f32, center: &mut (f64, f32)| -> Result<(), SearchError<E>> {
            let candidate = Candidate { family, ratio };
            let loss = if candidate == identity {
                unscaled_loss
            } else {
                let scales = candidate_scales(act_mean_abs, weights, ratio)?;
                let loss = objective(&scales).map_err(SearchError::Objective)?;
                best.evaluations += 1;
                if loss < best.loss {
                    (best.candidate, best.scales, best.loss) = (candidate, scales, loss);
                }
                loss
            };
            if loss < center.0 {
                *center = (loss, ratio);
            }
            Ok(())
        };
        let mut step = 1.0 / options.grid_points as f32;
        for point in 0..options.grid_points {
            consider(point as f32 * step, &mut center)?;
        }
        for _ in 0..options.halvings {
            step /= 2.0;
            let middle = center.1;
            for ratio in [middle - step, middle + step] {
                if (0.0..=1.0).contains(&ratio) {
                    consider(ratio, &mut center)?;
                }
            }
        }
    }
    Ok(best)
}
