//! The head's Hessian.

use slmc_calibration::statistics::SecondMoment;
use slmc_matmul::Precision;
use slmc_model::{Head, HostView, WeightSource};

use crate::PipelineError;
use crate::hidden::HiddenStates;

/// The Hessian of the head's input: the hidden states behind the last block through the final norm.
///
/// # Errors
/// NaN or infinity among them.
pub fn head_hessian(
    source: &dyn WeightSource,
    head: &Head,
    hidden: &HiddenStates,
    precision: Precision,
) -> Result<Vec<f32>, PipelineError> {
    let mut moment = SecondMoment::new("the head", source.config().hidden_size).in_precision(precision);
    hidden.each(|states| {
        let [sequences, seq_len, width] = states.dims();
        let normalized = head.normalize(&states.reshape([sequences * seq_len, width]));
        Ok(moment.add(&HostView::of(&normalized))?)
    })?;
    Ok(moment.hessian())
}
