//! What is pruned, known before any weight is read.

use serde::Serialize;
use slmc_checkpoint::Dtype;
use slmc_quant::plan::{IntFacts, IntReason, Pattern};

use crate::select::check_pattern;
use crate::{Method, PruneError, Scope, Sparsity};

/// How a share of the whole model is spread over its layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum LayerSparsity {
    /// All lose the same share.
    #[default]
    Uniform,
    /// Blocks with many outliers lose less: see [`crate::owl`].
    Owl {
        /// Times the mean importance from which on a weight is an outlier: the paper's M.
        threshold: f64,
        /// By how much shares may differ from their mean: the paper's λ.
        lambda: f64,
    },
    /// Blocks lose after what pruning each of them was measured to cost, so that the sum is least.
    Measured,
}

/// What becomes of a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PrunePlan {
    /// How weights are chosen.
    pub method: Method,
    /// How many of each pruned tensor's.
    pub sparsity: Sparsity,
    /// Among which.
    pub scope: Scope,
    /// How they are spread over the layers.
    #[serde(skip_serializing_if = "LayerSparsity::is_uniform")]
    pub layer_sparsity: LayerSparsity,
    /// Every tensor, in the order given.
    pub tensors: Vec<PlannedTensor>,
    /// Number of weights.
    pub total_weights: u64,
    /// How many become zero.
    pub pruned_weights: u64,
}

/// One tensor of a [`PrunePlan`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlannedTensor {
    /// GGUF name.
    #[serde(skip)]
    pub name: String,
    /// Its name in the checkpoint.
    #[serde(rename = "name")]
    pub hf_name: String,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// How it is stored.
    #[serde(skip)]
    pub dtype: Dtype,
    /// Number of weights that become zero; `None` where it stays as it is.
    pub pruned: Option<u64>,
    /// Why.
    pub reason: IntReason,
}

impl PrunePlan {
    /// Plans all tensors of a checkpoint. `keep` matches GGUF or checkpoint names.
    ///
    /// # Errors
    /// A pattern that matches no linear layer; columns that are no multiple of M; nothing to prune.
    pub fn new(
        (method, sparsity, scope): (Method, Sparsity, Scope),
        tensors: &[IntFacts],
        keep: &[Pattern],
    ) -> Result<Self, PruneError> {
        let matches =
            |p: &Pattern, t: &IntFacts| t.is_linear && (p.matches(&t.name) || p.matches(&t.hf_name));
        if let Some(idle) = keep.iter().find(|p| !tensors.iter().any(|t| matches(p, t))) {
            return Err(PruneError::NoMatch { pattern: idle.to_string() });
        }
        let mut planned = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            let reason = match keep.iter().find(|p| matches(p, tensor)) {
                Some(pattern) => IntReason::Kept { pattern: pattern.to_string() },
                None if tensor.is_linear => IntReason::Linear,
                None => IntReason::Other,
            };
            let pruned = (reason == IntReason::Linear)
                .then(|| {
                    let (weights, columns): (usize, _) = (tensor.shape.iter().product(), tensor.shape[1]);
                    if let Sparsity::Pattern { of, .. } = sparsity {
                        check_pattern(columns, of)?;
                    }
                    Ok(sparsity.pruned_of(weights) as u64)
                })
                .transpose()
                .map_err(|source| PruneError::Tensor {
                    tensor: tensor.hf_name.clone(),
                    source: Box::new(source),
                })?;
            let IntFacts { name, hf_name, shape, dtype, .. } = tensor.clone();
            planned.push(PlannedTensor { name, hf_name, shape, dtype, pruned, reason });
        }
        let pruned_weights = planned.iter().filter_map(|t| t.pruned).sum();
        if pruned_weights == 0 {
            return Err(PruneError::Nothing);
        }
        let total_weights = planned.iter().map(PlannedTensor::weights).sum();
        let layer_sparsity = LayerSparsity::Uniform;
        Ok(Self { method, sparsity, scope, layer_sparsity, tensors: planned, total_weights, pruned_weights })
    }

    /// Spreads the share in another way: `counts` weights of the tensors that are pruned, in their order.
    ///
    /// # Panics
    /// If there are not as many counts as tensors to prune.
    pub fn spread(&mut self, layer_sparsity: LayerSparsity, counts: &[u64]) {
        let pruned: Vec<_> = self.tensors.iter_mut().filter_map(|tensor| tensor.pruned.as_mut()).collect();
        assert_eq!(pruned.len(), counts.len());
        pruned.into_iter().zip(counts).for_each(|(pruned, count)| *pruned = *count);
        self.pruned_weights = counts.iter().sum();
        self.layer_sparsity = layer_sparsity;
    }

    /// What a tensor is pruned to: the plan's pattern, or its own count as a share.
    pub fn sparsity_of(&self, tensor: &PlannedTensor) -> Sparsity {
        match (self.sparsity, tensor.pruned) {
            (Sparsity::Share(_), Some(pruned)) => {
                Sparsity::Share(pruned as f64 / tensor.weights().max(1) as f64)
            }
            (sparsity, _) => sparsity,
        }
    }
}

impl LayerSparsity {
    /// Whether all layers lose the same share.
    pub fn is_uniform(&self) -> bool {
        *self == Self::Uniform
    }
}

impl PlannedTensor {
    /// Number of weights.
    pub fn weights(&self) -> u64 {
        self.shape.iter().map(|&d| d as u64).product()
    }
}
