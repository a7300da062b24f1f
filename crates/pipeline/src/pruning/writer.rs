//! Tensors into a checkpoint of the same shapes and element types.

use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use serde_json::Value;
use slmc_checkpoint::writer::WriteError;
use slmc_checkpoint::{Checkpoint, CheckpointPlan, CheckpointWriter, ExistingTarget, TensorSpec};
use slmc_prune::PrunePlan;

/// Writes a pruned checkpoint, whole or not at all. Tensors may come in any order.
pub struct PrunedWriter(Mutex<CheckpointWriter>);

impl PrunedWriter {
    /// Lays out the weight files of a plan.
    ///
    /// # Errors
    /// Names that occur twice.
    pub fn layout(plan: &PrunePlan) -> Result<CheckpointPlan, WriteError> {
        let spec = |tensor: &slmc_prune::plan::PlannedTensor| TensorSpec {
            name: tensor.hf_name.clone(),
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
        };
        CheckpointPlan::new(plan.tensors.iter().map(spec).collect(), CheckpointPlan::DEFAULT_SHARD_BYTES)
    }

    /// Begins a checkpoint that will appear at `target`, prepared in `room` if there is a directory of its own for it.
    ///
    /// # Errors
    /// Those of [`CheckpointWriter::create`].
    pub fn create(
        target: &Path,
        room: Option<&Path>,
        layout: CheckpointPlan,
        existing: ExistingTarget,
    ) -> Result<Self, WriteError> {
        let writer = CheckpointWriter::create_in(room, target, layout, existing)?;
        Ok(Self(Mutex::new(writer)))
    }

    /// Writes bytes of a tensor in its element type, from flat index `first` on.
    ///
    /// # Errors
    /// Values beyond the tensor's end, or written before; the file system.
    pub fn write(&self, hf_name: &str, first: usize, bytes: &[u8]) -> Result<(), WriteError> {
        self.lock().write_elements(hf_name, first, bytes)
    }

    /// Writes `config.json` and the files beside it, and moves the checkpoint to its target.
    ///
    /// # Errors
    /// A tensor that is not complete; the file system. Nothing new is at the target then.
    pub fn finish(self, config: &Value, from: &Checkpoint) -> Result<(), WriteError> {
        let mut writer = self.0.into_inner().unwrap_or_else(|error| error.into_inner());
        writer.write_config(config)?;
        writer.copy_side_files(from)?;
        writer.finish()
    }

    fn lock(&self) -> MutexGuard<'_, CheckpointWriter> {
        self.0.lock().expect("no panic while held")
    }
}
