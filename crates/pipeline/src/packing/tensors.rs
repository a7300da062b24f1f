//! Which tensors the packed checkpoint gets.

use slmc_checkpoint::Checkpoint;
use slmc_model::{ModelConfig, Role};
use slmc_quant::plan::IntFacts;

use crate::PipelineError;
use crate::export::{ExportTensor, Origin, export_tensors};

/// The tensors of a packed checkpoint.
pub struct PackTensors {
    /// Where their values come from, rows in the checkpoint's order.
    pub tensors: Vec<ExportTensor>,
    /// What the plan must know of each.
    pub facts: Vec<IntFacts>,
    /// Checkpoint tensors that are not part of the model and are left out.
    pub left_out: Vec<String>,
}

/// Lists the model's tensors.
///
/// # Errors
/// Those of [`export_tensors`].
pub fn pack_tensors(checkpoint: &Checkpoint, config: &ModelConfig) -> Result<PackTensors, PipelineError> {
    let (exported, left_out) = export_tensors(checkpoint, config)?;
    let (mut tensors, mut facts) = (Vec::new(), Vec::new());
    for tensor in exported {
        // what follows from the configuration, readers compute
        let Origin::Stored { hf_name, offset, .. } = tensor.origin else { continue };
        let (Some(id), Some(info)) = (config.arch.by_hf_name(&hf_name), checkpoint.tensor(&hf_name)) else {
            unreachable!("exported tensors are the architecture's and the checkpoint's")
        };
        facts.push(IntFacts {
            name: tensor.name.clone(),
            hf_name: hf_name.clone(),
            shape: tensor.shape.clone(),
            dtype: info.dtype,
            is_linear: Role::LINEAR.contains(&id.role),
        });
        let origin = Origin::Stored { hf_name, permuted_heads: None, offset, leaves_offset_out: true };
        tensors.push(ExportTensor { origin, ..tensor });
    }
    Ok(PackTensors { tensors, facts, left_out })
}
