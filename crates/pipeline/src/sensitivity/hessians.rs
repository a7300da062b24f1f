//! Hessians of the float model's inputs.

use slmc_calibration::statistics::SecondMoment;
use slmc_model::{LinearInput, LinearObserver};
use slmc_quant::QuantError;
use slmc_quant::gptq::FeedbackFactor;

use super::rounding::Knowledge;

/// Gathers the second moments of a block's four inputs.
pub struct Moments {
    layer: usize,
    moments: [Option<SecondMoment>; 4],
}

impl Moments {
    /// Of block `layer`, which nothing has run through yet.
    pub fn new(layer: usize) -> Self {
        Self { layer, moments: Default::default() }
    }

    /// One input's Hessian, factored; what was gathered of it is dropped.
    ///
    /// # Errors
    /// It cannot be factored.
    pub fn factor(&mut self, input: LinearInput, damping: f64) -> Result<FeedbackFactor, QuantError> {
        let moment = self.moments[input.index()].take().expect("every block observes its four inputs");
        FeedbackFactor::new(moment.hessian(), moment.d_in(), damping)
    }

    /// The same, with passes of coordinate descent, as rounding wants it.
    ///
    /// # Errors
    /// It cannot be factored.
    pub fn take(&mut self, input: LinearInput, damping: f64, passes: usize) -> Result<Knowledge, QuantError> {
        Ok(Knowledge::Hessian { factor: self.factor(input, damping)?, passes })
    }
}

impl LinearObserver for Moments {
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
