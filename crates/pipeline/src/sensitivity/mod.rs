//! What storing each tensor as each of several types costs, in mean KL divergence per token from the float model.
//!
//! Small errors of different tensors are nearly independent, and the divergence is quadratic in them, so their costs add up.
//! The cost of one tensor is measured: rounded as the method would round it, at one reference type, in an otherwise float model,
//! on windows that the method's own statistics have not seen. Other types are told from the ratio of the output errors
//! E‖(Ŵ − W) x‖². ggml also rounds the inputs of every product; that is measured once, for the whole model, and shared out among
//! the tensors by their output errors and sensitivities. How far the costs do add up is measured too ([`Curve`]): on the model
//! with all tensors rounded, once for each type.
//!
//! The embedding is measured as what it is: a lookup, the head's product, or both.

mod blocks;
mod conclusion;
mod costs;
mod curve;
mod hessians;
mod levels;
mod measurement;
mod rounding;
pub(crate) mod stream;

use std::collections::HashMap;

use slmc_gguf::TensorType;
use slmc_model::{BurnDevice, WeightSource};

use crate::PipelineError;
use crate::progress::Reporter;
use crate::walker::Walk;
use measurement::Measurement;

pub use blocks::{Layer, block_divergences};
pub use costs::Types;
pub use curve::Curve;

/// What is measured, and how.
pub struct Request<'a> {
    /// The float model.
    pub source: &'a dyn WeightSource,
    /// Types to try, by GGUF name.
    pub types: &'a HashMap<String, Types>,
    /// What each column's squared error weighs, by GGUF name; tensors without an entry are rounded plainly.
    pub importance: &'a HashMap<String, Vec<f32>>,
    /// Where the method feeds errors forward, what it needs for that.
    pub feedback: Option<Feedback<'a>>,
    /// Token ids that losses are measured on, all windows of the same length.
    pub windows: &'a [Vec<u32>],
    /// Where the model runs.
    pub device: &'a BurnDevice,
}

/// What error feedback needs.
#[derive(Clone, Copy)]
pub struct Feedback<'a> {
    /// Through the same model, over the calibration sequences for the Hessians.
    pub walk: &'a Walk<'a>,
    /// Passes of coordinate descent behind it.
    pub passes: usize,
    /// What is added to the Hessians' diagonals, in parts of their median.
    pub damping: f64,
    /// The same for the head's.
    pub head_damping: f64,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Sensitivity {
    /// Every tensor that was to be measured.
    pub tensors: Vec<Costs>,
    /// What the sum of their weights' costs comes to.
    pub curve: Curve,
}

/// What one tensor costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Costs {
    /// GGUF name.
    pub tensor: String,
    /// As each candidate type.
    pub candidates: Vec<Cost>,
}

/// What one tensor costs as one type, in nats per token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// The type.
    pub ty: TensorType,
    /// The rounding of its weights, before [`Sensitivity::curve`].
    pub weights: f64,
    /// The rounding of its product's inputs.
    pub inputs: f64,
}

/// Measures all tensors that `request.types` names. The figures do not depend on the number of threads.
///
/// # Errors
/// The model cannot be run; a statistic is not finite; the user cancels.
pub fn measure(request: &Request<'_>, reporter: &dyn Reporter) -> Result<Sensitivity, PipelineError> {
    Measurement::start(request, reporter)?.run()
}
