//! Moments of what linear layers are fed with, over all calibration tokens.

use std::error::Error;

use slmc_calibration::statistics::ColumnMoments;
use slmc_model::{Head, HostView, LinearInput, LinearObserver};

use crate::PipelineError;
use crate::hidden::HiddenStates;

/// Gathers the moments of a block's four inputs while it runs.
pub struct InputMoments {
    layer: usize,
    inputs: [Option<ColumnMoments>; 4],
}

impl InputMoments {
    /// Of block `layer`, which nothing has run through yet.
    pub fn new(layer: usize) -> Self {
        Self { layer, inputs: Default::default() }
    }

    /// The moments, in the order of [`LinearInput::ALL`].
    ///
    /// # Panics
    /// The block was never run.
    pub fn finish(self) -> [ColumnMoments; 4] {
        self.inputs.map(|moments| moments.expect("every block observes its four inputs"))
    }
}

impl LinearObserver for InputMoments {
    fn observe(
        &mut self,
        input: LinearInput,
        x: &[f32],
        d_in: usize,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let layer = self.layer;
        self.inputs[input.index()]
            .get_or_insert_with(|| ColumnMoments::new(format!("block {layer}, {input}"), d_in))
            .add(x)?;
        Ok(())
    }
}

/// The moments of the head's input: the hidden states behind the last block through the final norm.
///
/// # Errors
/// NaN or infinity among them.
pub fn head_moments(head: &Head, hidden: &HiddenStates) -> Result<ColumnMoments, PipelineError> {
    let mut moments = ColumnMoments::new("the head", hidden.width());
    hidden.each(|states| {
        let [sequences, seq_len, width] = states.dims();
        let normalized = head.normalize(&states.reshape([sequences * seq_len, width]));
        Ok(moments.add(&HostView::of(&normalized))?)
    })?;
    Ok(moments)
}
