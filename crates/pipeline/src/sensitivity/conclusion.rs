//! From measured divergences and output errors to costs.

use std::collections::HashMap;

use slmc_gguf::TensorType;
use slmc_gguf::activation::ActivationFormat;

use super::costs::{OutputErrors, Types};
use super::{Cost, Costs, Curve, Sensitivity};

/// One measured use of a tensor: in a product or a lookup.
pub struct Use {
    /// GGUF name.
    pub tensor: String,
    /// Its output errors.
    pub errors: OutputErrors,
    /// The divergence with the tensor rounded to the reference type.
    pub divergence: f64,
    /// Its output errors in the models with all tensors rounded.
    pub levels: Vec<f64>,
}

impl Use {
    /// What one unit of output error costs.
    fn sensitivity(&self) -> f64 {
        if self.errors.careful > 0.0 { self.divergence / self.errors.careful } else { 0.0 }
    }

    /// What the method's care makes of an output error.
    fn care(&self) -> f64 {
        if self.errors.reference > 0.0 { self.errors.careful / self.errors.reference } else { 1.0 }
    }
}

/// Costs of all tensors. `inputs` are the divergences with the inputs of all products rounded to each of `formats`, `levels` those
/// of the models with all tensors rounded.
pub fn conclude(
    uses: &[Use],
    types: &HashMap<String, Types>,
    formats: &[ActivationFormat],
    inputs: &[f64],
    levels: &[f64],
) -> Sensitivity {
    let pairs = levels.iter().enumerate().map(|(n, &measured)| {
        let sum: f64 = uses.iter().map(|used| used.sensitivity() * used.levels[n]).sum();
        (sum, measured)
    });
    let curve = Curve::new(pairs);
    // what one unit of output error that comes from rounded inputs counts, beside one that comes from rounded weights
    let weight = |f: usize| {
        let of = |used: &Use| Some(used.sensitivity() * used.errors.inputs.get(f)?);
        let sum: f64 = uses.iter().filter_map(of).sum();
        if sum > 0.0 { inputs[f] / sum } else { 0.0 }
    };
    let input_weights: Vec<f64> = (0..formats.len()).map(weight).collect();
    let mut tensors: Vec<Costs> = Vec::new();
    for used in uses {
        let cost = |(&ty, &error): (&TensorType, &f64)| {
            let format = ActivationFormat::for_weights(ty);
            let f = formats.iter().position(|&known| known == format);
            let rounded = f.and_then(|f| Some(input_weights[f] * used.errors.inputs.get(f)?)).unwrap_or(0.0);
            let sensitivity = used.sensitivity();
            Cost { ty, weights: sensitivity * used.care() * error, inputs: sensitivity * rounded }
        };
        let candidates = types[&used.tensor].candidates.iter().zip(&used.errors.candidates).map(cost);
        match tensors.iter_mut().find(|costs| costs.tensor == used.tensor) {
            Some(other) => other.candidates.iter_mut().zip(candidates).for_each(|(sum, cost)| {
                sum.weights += cost.weights;
                sum.inputs += cost.inputs;
            }),
            None => {
                tensors.push(Costs { tensor: used.tensor.clone(), candidates: candidates.collect() });
            }
        }
    }
    Sensitivity { tensors, curve }
}
