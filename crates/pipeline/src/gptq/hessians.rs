//! The Hessians of what a block's linear layers are fed with.

use slmc_calibration::statistics::SecondMoment;
use slmc_model::{Block, Context, Head, HostView, LinearInput, LinearObserver, WeightSource};
use slmc_quant::gptq::FeedbackFactor;

use crate::PipelineError;
use crate::hidden::HiddenStates;

/// The second moment matrices of a block's four inputs.
pub struct BlockHessians {
    layer: usize,
    moments: [Option<SecondMoment>; 4],
}

impl BlockHessians {
    /// Runs the hidden states through the block, leaving them as they are, and gathers what passes.
    ///
    /// # Errors
    /// The block cannot be run; NaN or infinity in its inputs.
    pub fn collect(
        layer: usize,
        block: &Block,
        hidden: &HiddenStates,
        context: &Context,
    ) -> Result<Self, PipelineError> {
        let mut gathered = Self { layer, moments: Default::default() };
        hidden.each(|states| {
            block.forward(states, context, &mut gathered)?;
            Ok(())
        })?;
        Ok(gathered)
    }

    /// The factor of one input's Hessian, which is dropped.
    ///
    /// # Errors
    /// The Hessian cannot be factored.
    pub fn factor(&mut self, input: LinearInput, damping: f64) -> Result<FeedbackFactor, PipelineError> {
        let moment = self.moments[input.index()].take().expect("every block observes its four inputs");
        let (columns, hessian) = (moment.d_in(), moment.hessian());
        drop(moment);
        FeedbackFactor::new(hessian, columns, damping).map_err(|source| PipelineError::Rounding {
            tensor: format!("block {}, {input}", self.layer),
            source,
        })
    }
}

impl LinearObserver for BlockHessians {
    fn observe(
        &mut self,
        input: LinearInput,
        x: &[f32],
        d_in: usize,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let layer = self.layer;
        self.moments[input.index()]
            .get_or_insert_with(|| SecondMoment::new(format!("block {layer}, {input}"), d_in))
            .add(x)?;
        Ok(())
    }
}

/// The Hessian of the head's input: the hidden states behind the last block through the final norm.
///
/// # Errors
/// NaN or infinity among them.
pub fn head_hessian(
    source: &dyn WeightSource,
    head: &Head,
    hidden: &HiddenStates,
) -> Result<Vec<f32>, PipelineError> {
    let mut moment = SecondMoment::new("the head", source.config().hidden_size);
    hidden.each(|states| {
        let [sequences, seq_len, width] = states.dims();
        let normalized = head.normalize(&states.reshape([sequences * seq_len, width]));
        Ok(moment.add(&HostView::of(&normalized))?)
    })?;
    Ok(moment.hessian())
}
