//! Which dimensions of the residual stream can be spared.
//!
//! All blocks, the embedding and the head share them, so that they go everywhere or nowhere: what a dimension is worth is the mean, over
//! everything that reads the stream through a norm, of what it is worth to each reader's outputs.

use serde::{Deserialize, Serialize};

use super::{InputMoments, StructuredImportance};
use crate::PruneError;

/// What a reader of the stream sees, dimension by dimension.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StreamMoments {
    /// Of what its norm gives.
    pub normed: InputMoments,
    /// E\[h² / mean h²\] of the stream h in front of the norm.
    pub energy: Vec<f64>,
    /// The diagonal of H⁻¹, H the damped Hessian of what the norm gives; empty where nobody asked for it.
    pub inverse_diagonal: Vec<f64>,
}

impl StreamMoments {
    /// What RMSNorm's weights are multiplied by, beside what their number asks for, so that it gives as much as before on the average
    /// when only the dimensions `kept` stay: √(Σ_K E\[h²\] / Σ E\[h²\]), which is 1 where all others are zero.
    pub fn shrinkage(&self, kept: &[usize]) -> f64 {
        let (all, kept): (f64, f64) = (self.energy.iter().sum(), kept.iter().map(|k| self.energy[*k]).sum());
        if all > 0.0 { (kept / all).sqrt() } else { 1.0 }
    }
}

impl StructuredImportance {
    /// What each dimension is worth to one reader, in parts of what all of them give; `squares` are Σ w² of the columns of the matrices
    /// behind the norm.
    ///
    /// * hessian: ‖w_k‖² / \[H⁻¹\]_kk, what its removal costs where the other dimensions make up for it;
    /// * activation: E\[x²\], Minitron's measure of embedding channels, with squares for norms (arXiv 2407.14679, section 2.2);
    /// * variance, wanda, magnitude: as for channels.
    ///
    /// # Errors
    /// Lengths that do not fit; no Hessian where it decides.
    pub fn of_dimensions(self, squares: &[f64], seen: &StreamMoments) -> Result<Vec<f64>, PruneError> {
        let expected = squares.len();
        let (moments, inverse) = (&seen.normed, &seen.inverse_diagonal);
        let mut needed = vec![("means", &moments.means), ("second moments", &moments.second_moments)];
        if self == Self::Hessian {
            needed.push(("inverse Hessian's diagonal", inverse));
        }
        for (what, values) in needed {
            if values.len() != expected {
                return Err(PruneError::Length { what, expected, found: values.len() });
            }
        }
        let energy = |k: usize| squares[k] * moments.second_moments[k];
        let of: Box<dyn Fn(usize) -> f64 + '_> = match self {
            // a Hessian is damped where nothing comes in, so that its inverse says nothing there
            Self::Hessian => {
                Box::new(|k| if moments.second_moments[k] > 0.0 { squares[k] / inverse[k] } else { 0.0 })
            }
            Self::Activation => Box::new(|k| moments.second_moments[k]),
            Self::Variance => Box::new(|k| squares[k] * moments.variance(k)),
            Self::Wanda => Box::new(energy),
            Self::Magnitude => Box::new(|k| squares[k]),
            Self::Random => Box::new(|_| 1.0),
        };
        let whole: f64 = match self {
            Self::Hessian | Self::Variance => (0..expected).map(energy).sum(),
            _ => (0..expected).map(&of).sum(),
        };
        Ok((0..expected).map(|k| if whole > 0.0 { of(k) / whole } else { 0.0 }).collect())
    }

    /// The dimensions, the least important first: `readers` are what [`Self::of_dimensions`] gave for each. `seed` decides the lot.
    pub fn least_important_dimensions(self, readers: &[Vec<f64>], seed: u64) -> Vec<usize> {
        let count = readers.first().map_or(0, Vec::len);
        let mut importance = vec![0.0; count];
        if self == Self::Random {
            let mut lot = fastrand::Rng::with_seed(seed);
            importance.fill_with(|| lot.f64());
        } else {
            for reader in readers {
                importance.iter_mut().zip(reader).for_each(|(sum, value)| *sum += value);
            }
        }
        let mut ranked: Vec<usize> = (0..count).collect();
        ranked.sort_by(|a, b| importance[*a].total_cmp(&importance[*b]));
        ranked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(second_moments: &[f64]) -> StreamMoments {
        let means = vec![0.0; second_moments.len()];
        let inverse_diagonal = second_moments.iter().map(|m| 1.0 / m.max(1e-9)).collect();
        StreamMoments {
            normed: InputMoments { means, second_moments: second_moments.to_vec() },
            energy: second_moments.to_vec(),
            inverse_diagonal,
        }
    }

    #[test]
    fn a_dimension_that_nobody_gives_or_reads_goes_first() {
        let readers =
            [(&[1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 1e-6, 2.0]), (&[9.0, 1.0, 2.0, 0.5], [1.0, 5.0, 1e-6, 2.0])];
        for importance in StructuredImportance::ALL {
            if matches!(importance, StructuredImportance::Magnitude | StructuredImportance::Random) {
                continue;
            }
            let of = |(squares, moments): &(&[f64; 4], [f64; 4])| {
                importance.of_dimensions(&squares[..], &seen(moments)).unwrap()
            };
            let readers: Vec<Vec<f64>> = readers.iter().map(of).collect();
            assert_eq!(importance.least_important_dimensions(&readers, 0)[0], 2, "{importance}");
        }
    }

    #[test]
    fn uncorrelated_inputs_make_the_hessian_wanda() {
        let squares = [1.0, 0.25, 3.0];
        let seen = seen(&[0.5, 2.0, 1.0]);
        let [hessian, wanda] = [StructuredImportance::Hessian, StructuredImportance::Wanda]
            .map(|importance| importance.of_dimensions(&squares, &seen).unwrap());
        assert!(hessian.iter().zip(&wanda).all(|(a, b)| (a - b).abs() < 1e-12), "{hessian:?} {wanda:?}");
    }

    #[test]
    fn what_is_lost_is_made_up_for_in_the_norm() {
        let seen = seen(&[0.0, 2.0, 1.0, 1.0]);
        assert_eq!(seen.shrinkage(&[1, 2, 3]), 1.0);
        assert_eq!(seen.shrinkage(&[0, 2, 3]), 0.5f64.sqrt());
    }
}
