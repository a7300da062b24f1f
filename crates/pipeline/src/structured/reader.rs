//! What one reader of the residual stream sees of its dimensions, and which of them the whole model can spare.

use slmc_calibration::CalibrationError;
use slmc_calibration::statistics::{ColumnMoments, SecondMoment};
use slmc_model::{LinearInput, Role, TensorId, WeightSource};
use slmc_prune::PruneError;
use slmc_prune::structured::{StreamMoments, StructuredImportance, squared_norms, told_by_others};

use super::profile::{Profile, StreamDetail, means};
use crate::PipelineError;
use crate::gptq::DAMPING;

/// Weights of the head that are looked at together.
const CHUNK_WEIGHTS: usize = 1 << 22;

/// Gathers what a norm gives.
pub(super) struct Reader {
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
        Self { norm, moments, hessian }
    }

    /// Adds what the norm gives, `[tokens, hidden_size]`.
    pub fn add(&mut self, normed: &[f32]) -> Result<(), CalibrationError> {
        self.moments.add(normed)?;
        self.hessian.as_mut().map_or(Ok(()), |hessian| hessian.add(normed))
    }

    /// What was seen, and with Hessians what of n nᵀ, n the stream in front of the norm's weights.
    pub fn finish(self) -> (StreamMoments, Option<Vec<f32>>) {
        let normed = means(&self.moments);
        // a dimension that the norm makes zero counts for nothing here
        let weights: Vec<f64> = self.norm.iter().map(|weight| f64::from(*weight)).collect();
        let divided = |value: f64, by: f64| if by == 0.0 { 0.0 } else { value / by };
        let squares = normed.second_moments.iter().zip(&weights);
        let energy = squares.map(|(square, weight)| divided(*square, weight * weight)).collect();
        let hessian = self.hessian.map(|hessian| {
            let mut matrix = hessian.hessian();
            for (row, weight) in matrix.chunks_exact_mut(weights.len()).zip(&weights) {
                for (value, other) in row.iter_mut().zip(&weights) {
                    *value = divided(f64::from(*value), weight * other) as f32;
                }
            }
            matrix
        });
        (StreamMoments { normed, energy }, hessian)
    }
}

/// The mean over readers of what [`Reader::finish`] tells of n nᵀ.
#[derive(Default)]
pub(super) struct StreamHessian {
    sum: Vec<f64>,
    readers: usize,
}

impl StreamHessian {
    /// Adds a reader's.
    pub fn add(&mut self, hessian: &[f32]) {
        self.sum.resize(hessian.len(), 0.0);
        self.sum.iter_mut().zip(hessian).for_each(|(sum, value)| *sum += f64::from(*value));
        self.readers += 1;
    }

    /// The dimensions, those that the others tell best first; none where no reader told anything.
    pub fn ranked(self, width: usize) -> Result<Vec<usize>, PruneError> {
        if self.readers == 0 {
            return Ok(Vec::new());
        }
        let mean = self.sum.into_iter().map(|sum| (sum / self.readers as f64) as f32).collect();
        told_by_others(mean, width, DAMPING)
    }
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
    if importance == StructuredImportance::Hessian {
        return Ok(profile.told_by_others.clone());
    }
    let config = source.config();
    let width = config.hidden_size;
    let mut readers = Vec::new();
    let failed = |source| PipelineError::Pruning { tensor: "the residual stream".into(), source };
    if importance == StructuredImportance::Random {
        return Ok(importance.least_important_dimensions(&[vec![0.0; width]], seed));
    }
    for layer in 0..config.num_hidden_layers {
        for (input, norm) in [(LinearInput::Attention, Role::InputNorm), (LinearInput::Mlp, Role::PostNorm)] {
            let mut squares = vec![0.0; width];
            for role in input.roles(config) {
                let id = TensorId::block(layer, role);
                add(&mut squares, &source.load(id)?.values);
                source.release(id);
            }
            let seen = profile.reader(Some(layer), norm).cloned().unwrap_or_default();
            readers.extend(importance.of_dimensions(&squares, &seen).map_err(failed)?);
        }
    }
    let (id, mut squares) = (config.head(), vec![0.0; width]);
    let step = (CHUNK_WEIGHTS / width.max(1)).max(1);
    for first in (0..config.vocab_size).step_by(step) {
        let rows = first..config.vocab_size.min(first + step);
        add(&mut squares, &source.load_rows(id, rows)?.values);
        source.release(id);
    }
    let seen = profile.reader(None, Role::FinalNorm).cloned().unwrap_or_default();
    readers.extend(importance.of_dimensions(&squares, &seen).map_err(failed)?);
    Ok(importance.least_important_dimensions(&readers, seed))
}

fn add(squares: &mut [f64], weights: &[f32]) {
    let more = squared_norms(weights, squares.len());
    squares.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}
