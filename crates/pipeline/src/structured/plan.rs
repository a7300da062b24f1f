//! What becomes of every tensor, once it is known how much of each kind stays.

use serde::Serialize;
use slmc_checkpoint::{Dtype, TensorSpec};
use slmc_model::{ModelConfig, Role, TensorId};
use slmc_prune::structured::{StructuredImportance, Widths};
use slmc_quant::plan::IntFacts;

use super::{Damage, Shape};

/// What becomes of a checkpoint.
#[derive(Clone, Debug, Serialize)]
pub struct StructuredPlan {
    /// How channels and heads are chosen.
    pub importance: StructuredImportance,
    /// Whether what stays is solved for.
    pub solves: bool,
    /// Whether anything is run through the model: where weights and numbers alone say what goes, no calibration is needed.
    pub calibrates: bool,
    /// How many of each kind there were.
    pub before: Widths,
    /// What stays.
    pub shape: Shape,
    /// What was measured to spread the budget.
    pub damages: Vec<Damage>,
    /// The divergence that these measurements predict, in nats per token.
    pub predicted_divergence: Option<f64>,
    /// Parameters of the original.
    pub parameters_before: u64,
    /// Parameters that stay.
    pub parameters: u64,
    /// Those of the blocks, before.
    pub block_parameters_before: u64,
    /// Those of the blocks that stay.
    pub block_parameters: u64,
    /// Every tensor of the new checkpoint.
    pub tensors: Vec<PlannedCut>,
}

/// One tensor of the new checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlannedCut {
    /// Its name there.
    pub name: String,
    /// Its name in the original, or what it would be called there.
    pub from: String,
    /// What it is in the original.
    #[serde(skip)]
    pub id: TensorId,
    /// Where it stands among the original's tensors; `None` of a bias that the original does not have.
    #[serde(skip)]
    pub at: Option<usize>,
    /// Its dimensions before.
    pub shape_before: Vec<usize>,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// How it is stored.
    #[serde(skip)]
    pub dtype: Dtype,
}

impl PlannedCut {
    /// Number of weights.
    pub fn weights(&self) -> u64 {
        self.shape.iter().map(|&d| d as u64).product()
    }

    /// Bytes in the file.
    pub fn bytes(&self) -> u64 {
        self.weights() * self.dtype.bytes() as u64
    }

    /// Its place in a weight file.
    pub fn spec(&self) -> TensorSpec {
        TensorSpec { name: self.name.clone(), dtype: self.dtype, shape: self.shape.clone() }
    }
}

/// The tensors of the new checkpoint, from what is known of the original's (`facts`).
pub fn cuts(config: &ModelConfig, shape: &Shape, facts: &[IntFacts]) -> Vec<PlannedCut> {
    let (arch, narrowed) = (config.arch, shape.narrowed(config));
    let name = |id| arch.hf_name(id).expect("an architecture names every tensor it has");
    let cut = |new: TensorId| {
        let id = TensorId { layer: new.layer.map(|layer| shape.layers[layer]), ..new };
        let of = |id| {
            let name = name(id);
            facts.iter().position(|facts| facts.hf_name == name)
        };
        let at = of(id);
        let weight = Role::LINEAR.into_iter().find(|linear| linear.bias() == Some(id.role));
        let like = at.or_else(|| of(TensorId { role: weight?, ..id }));
        PlannedCut {
            name: name(new),
            from: name(id),
            id,
            at,
            shape_before: config.shape(id.role),
            shape: narrowed.shape(id.role),
            dtype: facts[like.expect("the checkpoint's tensors are the architecture's")].dtype,
        }
    };
    narrowed.tensors().into_iter().map(cut).collect()
}
