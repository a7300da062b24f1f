//! What one reader of the residual stream sees of its dimensions, and which of them the whole model can spare.

use slmc_calibration::CalibrationError;
use slmc_calibration::statistics::{ColumnMoments, SecondMoment};
use slmc_model::{LinearInput, Role, TensorId, WeightSource};
use slmc_prune::structured::{StreamMoments, StructuredImportance, squared_norms};
use slmc_quant::gptq::{FeedbackFactor, times_inverse};

use super::profile::{Profile, StreamDetail, means};
use crate::PipelineError;
use crate::gptq::DAMPING;

/// Weights of the head that are looked at together.
const CHUNK_WEIGHTS: usize = 1 << 22;

/// Gathers what a norm gives.
pub(super) struct Reader {
    name: String,
    norm: Vec<f32>,
    moments: ColumnMoments,
    hessian: Option<SecondMoment>,
}

impl Reader {
    /// Behind a norm of these weights in block `layer`.
    pub fn new(layer: usize, norm: Vec<f32>, detail: StreamDetail) -> Self {
        let name = format!("block {layer}, the normed stream");
        let (moments, width) = (ColumnMoments::new(&name, norm.len()), norm.len());
        let hessian = (detail == StreamDetail::Hessians).then(|| SecondMoment::new(&name, width));
        Self { name, norm, moments, hessian }
    }

    /// Adds what the norm gives, `[tokens, hidden_size]`.
    pub fn add(&mut self, normed: &[f32]) -> Result<(), CalibrationError> {
        self.moments.add(normed)?;
        self.hessian.as_mut().map_or(Ok(()), |hessian| hessian.add(normed))
    }

    /// What was seen.
    pub fn finish(self) -> Result<StreamMoments, PipelineError> {
        let normed = means(&self.moments);
        // a dimension that the norm makes zero counts for nothing here
        let energy = |(square, weight): (&f64, &f32)| match f64::from(*weight).powi(2) {
            0.0 => 0.0,
            weight => square / weight,
        };
        let energy = normed.second_moments.iter().zip(&self.norm).map(energy).collect();
        let inverse_diagonal = match self.hessian {
            None => Vec::new(),
            Some(hessian) => inverse_diagonal(&hessian)
                .map_err(|source| PipelineError::Rounding { tensor: self.name, source })?,
        };
        Ok(StreamMoments { normed, energy, inverse_diagonal })
    }
}

fn inverse_diagonal(hessian: &SecondMoment) -> Result<Vec<f64>, slmc_quant::QuantError> {
    let (matrix, columns) = (hessian.hessian(), hessian.d_in());
    let factor = FeedbackFactor::new(matrix, columns, DAMPING)?;
    let mut inverse = vec![0.0; columns * columns];
    inverse.iter_mut().step_by(columns + 1).for_each(|value| *value = 1.0);
    times_inverse(&mut inverse, &factor);
    // the Hessian is twice the mean of the squares
    Ok(inverse.iter().step_by(columns + 1).map(|value| 2.0 * f64::from(*value)).collect())
}

/// The dimensions of the residual stream, the least important first.
///
/// # Errors
/// Weights cannot be read; the profile does not say enough.
pub fn ranked_dimensions(
    source: &dyn WeightSource,
    profile: &Profile,
    importance: StructuredImportance,
    seed: u64,
) -> Result<Vec<usize>, PipelineError> {
    let config = source.config();
    let width = config.hidden_size;
    let mut readers = Vec::new();
    let failed = |source| PipelineError::Pruning { tensor: "the residual stream".into(), source };
    for layer in 0..config.num_hidden_layers {
        for (input, norm) in [(LinearInput::Attention, Role::InputNorm), (LinearInput::Mlp, Role::PostNorm)] {
            let mut squares = vec![0.0; width];
            for &role in input.roles() {
                let id = TensorId::block(layer, role);
                add(&mut squares, &source.load(id)?.values);
                source.release(id);
            }
            let seen = profile.reader(Some(layer), norm).cloned().unwrap_or_default();
            readers.push(importance.of_dimensions(&squares, &seen).map_err(failed)?);
        }
    }
    let (id, mut squares) = (config.head(), vec![0.0; width]);
    let step = (CHUNK_WEIGHTS / width.max(1)).max(1);
    for first in (0..config.vocab_size).step_by(step) {
        let rows = first..config.vocab_size.min(first + step);
        add(&mut squares, &source.load_rows(id, rows)?.values);
    }
    source.release(id);
    let seen = profile.reader(None, Role::FinalNorm).cloned().unwrap_or_default();
    readers.push(importance.of_dimensions(&squares, &seen).map_err(failed)?);
    Ok(importance.least_important_dimensions(&readers, seed))
}

fn add(squares: &mut [f64], weights: &[f32]) {
    let more = squared_norms(weights, squares.len());
    squares.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}
