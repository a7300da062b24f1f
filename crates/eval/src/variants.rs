//! How far variants of one model have drifted from it, from the states in front of the head.
//!
//! Many variants share each slice of the head and the original's logits of it, which are most of the work where the vocabulary
//! is large.

use slmc_model::host::HostView;
use slmc_model::{Head, Tensor, WeightSource};

use crate::accumulate::Accumulator;
use crate::evaluate::EvaluateError;
use crate::scores::Side;

/// Bytes of one model's logits that exist at a time.
const LOGITS_BYTES: usize = 64 << 20;

/// Bytes of a slice of the head's weights, as f32.
const HEAD_BYTES: usize = 32 << 20;

/// A changed model on the tokens that its original has read.
pub struct Variant<'a> {
    /// The final norm's outputs, `[tokens, hidden_size]`.
    pub states: Tensor<2>,
    /// Where its head is read; `None` for the original's.
    pub head: Option<&'a dyn WeightSource>,
}

/// The mean over all tokens of KL(original ‖ variant), in nats, for every variant. `states` (`[tokens, hidden_size]`) are the
/// original's final norm's outputs. The figures do not depend on the number of threads.
///
/// # Errors
/// A head cannot be read; logits that are not finite.
pub fn mean_divergences(
    original: &dyn WeightSource,
    head: &Head,
    states: &Tensor<2>,
    variants: &[Variant<'_>],
) -> Result<Vec<f64>, EvaluateError> {
    let [tokens, width] = states.dims();
    let vocab_size = original.config().vocab_size;
    let step = (LOGITS_BYTES / (tokens * size_of::<f32>()).max(1))
        .min(HEAD_BYTES / (width * size_of::<f32>()).max(1))
        .max(1);
    // divergences need no targets; any token will do
    let mut accumulators: Vec<_> = variants.iter().map(|_| Accumulator::pair(vec![0; tokens])).collect();
    for first in (0..vocab_size).step_by(step) {
        let rows = first..vocab_size.min(first + step);
        let load = |source: &dyn WeightSource, side| {
            let slice = head.load_rows(source, rows.clone());
            source.release(source.config().head());
            slice.map_err(EvaluateError::model(side))
        };
        let slice = load(original, Side::Base)?;
        let base = HostView::of(&slice.logits(states));
        for (index, (variant, accumulator)) in variants.iter().zip(&mut accumulators).enumerate() {
            let logits = match variant.head {
                Some(source) => load(source, Side::Model)?.logits(&variant.states),
                None => slice.logits(&variant.states),
            };
            accumulator
                .add(rows.len(), Some(&base), &HostView::of(&logits))
                .map_err(|source| EvaluateError::Variant { index, source })?;
        }
    }
    let mean = |accumulator: Accumulator| {
        let drift = accumulator.finish().drift.unwrap_or_default();
        drift.iter().map(|drift| drift.kl).sum::<f64>() / tokens as f64
    };
    Ok(accumulators.into_iter().map(mean).collect())
}
