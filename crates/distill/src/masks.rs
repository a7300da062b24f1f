//! Zeros that stay.

use std::collections::BTreeMap;

use slmc_model::{MemorySource, ModelError, TensorId, WeightSource};

use crate::gradients::WeightGradients;
use crate::parameter::Parameter;

/// The share of exact zeros from which a matrix counts as pruned. Trained weights have hardly any.
const PRUNED: f64 = 0.2;

/// Which weights of a pruned model are zero, a bit each, and shall stay it.
#[derive(Clone, Debug, Default)]
pub struct Masks(BTreeMap<TensorId, Vec<u64>>);

impl Masks {
    /// The zeros of the matrices in training that are at least a fifth zero.
    ///
    /// # Errors
    /// None of a whole model.
    pub fn of_pruned(weights: &MemorySource) -> Result<Self, ModelError> {
        let mut masks = BTreeMap::new();
        for id in weights.tensors() {
            let values = weights.values(id)?;
            let zeros = values.iter().filter(|&&value| value == 0.0).count();
            if weights.config().shape(id.role).len() == 2 && zeros as f64 >= PRUNED * values.len() as f64 {
                let bits = values.chunks(64).map(|chunk| {
                    chunk.iter().enumerate().fold(0, |bits, (i, &value)| bits | u64::from(value == 0.0) << i)
                });
                masks.insert(id, bits.collect());
            }
        }
        Ok(Self(masks))
    }

    /// How many matrices are pruned.
    pub fn tensors(&self) -> usize {
        self.0.len()
    }

    /// How many zeros stay.
    pub fn zeros(&self) -> u64 {
        self.0.values().flatten().map(|bits| u64::from(bits.count_ones())).sum()
    }

    /// Makes the gradients of these weights zero. A weight that is zero and never has a gradient stays zero under AdamW.
    pub fn apply(&self, gradients: &mut WeightGradients) {
        for (parameter, gradient) in gradients.iter_mut() {
            let Parameter::Weight(id) = parameter else { continue };
            let Some(mask) = self.0.get(&id) else { continue };
            for (chunk, &bits) in gradient.chunks_mut(64).zip(mask) {
                for (i, value) in chunk.iter_mut().enumerate() {
                    if bits >> i & 1 == 1 {
                        *value = 0.0;
                    }
                }
            }
        }
    }
}
