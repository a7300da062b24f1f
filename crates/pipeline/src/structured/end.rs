//! The end of the model, where the residual stream behind the last block lacks dimensions.
//!
//! A head of its own is solved for as every layer is that reads the stream. One that is the embedding, too, stays; but the norm in front
//! of it has a weight for every dimension. With n and ñ the stream of the original and of the smaller model, each divided by the root of
//! its mean square, γ the norm's weights and E the head, those sought are
//!
//!   γ̃ = argmin Σ (z − z̃)ᵀ Λ (z − z̃),  z = E (γ ∘ n),  z̃ = E (γ̃ ∘ ñ),
//!
//! with Λ = diag(p) − p pᵀ: the curvature of the divergence between two distributions at p, for which the frequencies of the calibration
//! text's tokens stand. As G = Eᵀ Λ E, that is the solution of (G ∘ Σ ñ ñᵀ) γ̃ = (G ∘ Σ ñ nᵀ) γ, damped towards what γ̃ would be without.

use slmc_calibration::statistics::{CrossMoment, SecondMoment};
use slmc_model::{Head, HostView, ModelConfig, Role, Tensor, TensorId, host};
use slmc_quant::QuantError;
use slmc_quant::gptq::{FeedbackFactor, InputCorrection, aim_at_outputs};

use crate::PipelineError;
use crate::gptq::DAMPING;
use crate::hidden::HiddenStates;
use crate::walker::Walk;

/// Weights of the head that are looked at together.
const CHUNK_WEIGHTS: usize = 1 << 22;

/// What the end of the model becomes.
pub(super) enum End {
    /// The last norm's weights, `[hidden_size]`; in the dimensions that went as they were.
    Norm(Vec<f32>),
    /// What is done to the head.
    Head(InputCorrection),
}

impl End {
    /// The same of values that were kept.
    pub fn of(config: &ModelConfig, values: Vec<f32>) -> Result<Self, QuantError> {
        Ok(match config.tie_word_embeddings {
            true => Self::Norm(values),
            false => Self::Head(InputCorrection::from_matrix(values, config.hidden_size)?),
        })
    }

    /// The values to keep.
    pub fn values(&self) -> &[f32] {
        match self {
            Self::Norm(values) => values,
            Self::Head(correction) => correction.matrix(),
        }
    }
}

/// The hidden states behind the last block.
pub(super) struct Streams<'a> {
    /// Of the smaller model, with zeros in the dimensions that went.
    pub rounded: &'a HiddenStates,
    /// Of the original, of every so many batches.
    pub float: &'a HiddenStates,
    /// How many.
    pub every: usize,
}

/// Solves for the end of the model. `shrinkage` is what the last norm is multiplied by where nothing is known of it, and where the head
/// is solved for.
///
/// # Errors
/// The head cannot be read; a statistic is not finite.
pub(super) fn solve_end(
    walk: &Walk<'_>,
    streams: Streams<'_>,
    kept: &[usize],
    shrinkage: f32,
) -> Result<End, PipelineError> {
    let (source, config) = (walk.source, walk.source.config());
    let width = config.hidden_size;
    let failed = |source| PipelineError::Rounding { tensor: "the head".into(), source };
    let head = Head::load(source, walk.device)?;
    // 2/n Σ x̃ x̃ᵀ and 2/n Σ x̃ xᵀ
    let mut own = SecondMoment::new("the head", width);
    let mut crossed = CrossMoment::new("the head", [width, width]);
    for at in 0..streams.float.len() {
        let normed = |states: Tensor<3>| {
            let [sequences, seq_len, width] = states.dims();
            head.normalize(&states.reshape([sequences * seq_len, width]))
        };
        let rounded = normed(streams.rounded.get(at * streams.every)?) * shrinkage;
        let float = normed(streams.float.get(at)?);
        let (rounded, float) = (HostView::of(&rounded), HostView::of(&float));
        own.add(&rounded)?;
        crossed.add(&rounded, &float)?;
    }
    let (own, crossed) = (own.hessian(), crossed.matrix());
    if !config.tie_word_embeddings {
        let mut drift = vec![0.0; width * width];
        for (row, values) in drift.chunks_exact_mut(width).enumerate() {
            for (column, value) in values.iter_mut().enumerate() {
                // 2/n Σ (x − x̃) x̃ᵀ
                *value = crossed[column * width + row] - own[column * width + row];
            }
        }
        let factor = FeedbackFactor::new(own, width, DAMPING).map_err(failed)?;
        return Ok(End::Head(InputCorrection::new(drift, &factor).map_err(failed)?));
    }
    // normed streams carry γ and the shrinkage, so that what is solved for is in units of them
    let ratios = ratios((&own, &crossed), &curvature(walk)?, kept)?;
    let mut norm = source.load(TensorId::global(Role::FinalNorm))?.values;
    kept.iter().zip(&ratios).for_each(|(&k, ratio)| norm[k] *= ratio * shrinkage);
    Ok(End::Norm(norm))
}

/// What the last norm's weights of the dimensions `kept` are multiplied by where the head is the embedding, from 2/n Σ x̃ x̃ᵀ and
/// 2/n Σ x̃ xᵀ of the normed streams and the head's [`curvature`].
fn ratios(
    (own, crossed): (&[f32], &[f32]),
    curvature: &[f32],
    kept: &[usize],
) -> Result<Vec<f32>, PipelineError> {
    let failed = |source| PipelineError::Rounding { tensor: "the head".into(), source };
    let (count, width) = (kept.len(), curvature.len().isqrt());
    let (mut matrix, mut drift) = (vec![0.0; count * count], vec![0.0; count]);
    for (i, &row) in kept.iter().enumerate() {
        let row = row * width..(row + 1) * width;
        let (curvature, own, crossed) = (&curvature[row.clone()], &own[row.clone()], &crossed[row]);
        kept.iter().enumerate().for_each(|(j, &k)| matrix[i * count + j] = curvature[k] * own[k]);
        let wanted: f64 = curvature.iter().zip(crossed).map(|(h, c)| f64::from(*h) * f64::from(*c)).sum();
        let given: f64 = matrix[i * count..][..count].iter().map(|m| f64::from(*m)).sum();
        drift[i] = (wanted - given) as f32;
    }
    let factor = FeedbackFactor::new(matrix, count, DAMPING).map_err(failed)?;
    let mut ratios = vec![1.0; count];
    aim_at_outputs(&mut ratios, drift, &factor).map_err(failed)?;
    Ok(ratios)
}

/// The normed stream of a smaller model (`[tokens, hidden_size]`, zeros but in the dimensions `kept`) as it is once the last norm is
/// solved for. Each half of the tokens gets what the other half says, so that none is measured on what it was
/// fitted to.
///
/// # Errors
/// The head cannot be read; a statistic is not finite.
pub(super) fn with_end(
    float: &Tensor<2>,
    rounded: Tensor<2>,
    curvature: &[f32],
    kept: &[usize],
) -> Result<Tensor<2>, PipelineError> {
    let ([tokens, width], device) = (rounded.dims(), rounded.device());
    let (float, mut values) = (HostView::of(float), host::into_vec(rounded));
    let half = tokens / 2 * width;
    let mut fitted = Vec::new();
    for part in [half..values.len(), 0..half] {
        let mut own = SecondMoment::new("the head", width);
        let mut crossed = CrossMoment::new("the head", [width, width]);
        own.add(&values[part.clone()])?;
        crossed.add(&values[part.clone()], &float[part])?;
        fitted.push(ratios((&own.hessian(), &crossed.matrix()), curvature, kept)?);
    }
    let (first, second) = values.split_at_mut(half);
    for (part, ratios) in [first, second].into_iter().zip(&fitted) {
        for row in part.chunks_exact_mut(width) {
            kept.iter().zip(ratios).for_each(|(&k, ratio)| row[k] *= ratio);
        }
    }
    Ok(host::tensor(values, [tokens, width], &device))
}

/// Eᵀ (diag(p) − p pᵀ) E, `[hidden_size, hidden_size]`, up to a factor.
pub(super) fn curvature(walk: &Walk<'_>) -> Result<Vec<f32>, PipelineError> {
    let (source, config) = (walk.source, walk.source.config());
    let (width, tokens) = (config.hidden_size, config.vocab_size);
    // every token may come
    let mut frequencies = vec![1.0f64; tokens];
    walk.sequences.iter().flatten().for_each(|token| frequencies[*token as usize] += 1.0);
    let total: f64 = frequencies.iter().sum();
    let step = (CHUNK_WEIGHTS / width.max(1)).max(1);
    let chunks = || (0..tokens).step_by(step).map(|first| first..tokens.min(first + step));
    let mut mean = vec![0.0f64; width];
    for rows in chunks() {
        let values = source.load_rows(config.head(), rows.clone())?.values;
        for (row, frequency) in values.chunks_exact(width).zip(&frequencies[rows]) {
            mean.iter_mut().zip(row).for_each(|(mean, e)| *mean += frequency / total * f64::from(*e));
        }
    }
    let mut moment = SecondMoment::new("the head", width);
    for rows in chunks() {
        let mut values = source.load_rows(config.head(), rows.clone())?.values;
        for (row, frequency) in values.chunks_exact_mut(width).zip(&frequencies[rows]) {
            // in parts of the average token's, so that sums of squares stay in f32's range
            let root = (frequency / total * tokens as f64).sqrt();
            row.iter_mut().zip(&mean).for_each(|(e, mean)| *e = ((f64::from(*e) - mean) * root) as f32);
        }
        moment.add(&values)?;
    }
    source.release(config.head());
    Ok(moment.hessian())
}
