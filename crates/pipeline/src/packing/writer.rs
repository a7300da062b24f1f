//! Encoded rows, sorted into the tensors of a packed checkpoint.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use serde_json::Value;
use slmc_checkpoint::packed::{bits, part};
use slmc_checkpoint::writer::WriteError;
use slmc_checkpoint::{Checkpoint, CheckpointPlan, CheckpointWriter, Dtype, ExistingTarget, TensorSpec};
use slmc_quant::plan::IntTensor;
use slmc_quant::{IntGrid, IntPlan};

use crate::PipelineError;

/// Writes a packed checkpoint, whole or not at all. Rows of a tensor may come in any order.
pub struct PackedWriter {
    inner: Mutex<Inner>,
}

struct Inner {
    writer: CheckpointWriter,
    /// Zeros of asymmetric weights, `[d_out, groups]`: packed down the columns, so that no row can be written by itself.
    zeros: HashMap<String, Vec<u8>>,
}

impl PackedWriter {
    /// Lays out the weight files of a plan.
    ///
    /// # Errors
    /// Names that occur twice.
    pub fn layout(plan: &IntPlan) -> Result<CheckpointPlan, WriteError> {
        CheckpointPlan::new(
            plan.tensors.iter().flat_map(specs).collect(),
            CheckpointPlan::DEFAULT_SHARD_BYTES,
        )
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
        Ok(Self { inner: Mutex::new(Inner { writer, zeros: HashMap::new() }) })
    }

    /// Writes encoded rows of a linear layer, from row `first` on.
    ///
    /// # Errors
    /// Rows beyond the tensor's end, or written before; the file system.
    pub fn write_rows(
        &self,
        tensor: &IntTensor,
        grid: IntGrid,
        first: usize,
        encoded: &[u8],
    ) -> Result<(), PipelineError> {
        let [rows, columns] = matrix(tensor);
        let groups = columns / grid.group_len();
        let (mut codes, mut scales, mut zeros) = (Vec::new(), Vec::new(), Vec::new());
        for group in encoded.chunks_exact(grid.group_bytes()) {
            let group = grid.split(group);
            codes.extend_from_slice(group.codes);
            scales.extend_from_slice(group.scale);
            zeros.push(group.zero);
        }
        let words = grid.scheme().packing().words(columns);
        let mut inner = self.lock();
        inner.writer.write_elements(&name(tensor, part::PACKED), first * words, &codes)?;
        inner.writer.write_elements(&name(tensor, part::SCALE), first * groups, &scales)?;
        if !grid.scheme().packing().symmetric {
            let all = inner.zeros.entry(tensor.hf_name.clone()).or_insert_with(|| vec![0; rows * groups]);
            all[first * groups..][..zeros.len()].copy_from_slice(&zeros);
        }
        Ok(())
    }

    /// Writes rows of a tensor that stays as it is, from flat index `first` on.
    ///
    /// # Errors
    /// As [`CheckpointWriter::write_values_f32`].
    pub fn write_values(
        &self,
        tensor: &IntTensor,
        first: usize,
        values: &[f32],
    ) -> Result<(), PipelineError> {
        Ok(self.lock().writer.write_values_f32(&tensor.hf_name, first, values)?)
    }

    /// Writes what rows do not hold, `config.json` and the files beside it, and moves the checkpoint to its target.
    ///
    /// # Errors
    /// A tensor that is not complete; the file system. Nothing new is at the target then.
    pub fn finish(self, plan: &IntPlan, config: &Value, from: &Checkpoint) -> Result<(), PipelineError> {
        let Inner { mut writer, zeros } = self.inner.into_inner().unwrap_or_else(|error| error.into_inner());
        for tensor in &plan.tensors {
            let Some(grid) = tensor.grid else { continue };
            let shape = matrix(tensor).map(|d| (d as i64).to_le_bytes());
            writer.write_bytes(&name(tensor, part::SHAPE), shape.as_flattened())?;
            if let Some(zeros) = zeros.get(&tensor.hf_name) {
                writer
                    .write_bytes(&name(tensor, part::ZERO_POINT), &pack_down(grid, zeros, matrix(tensor)))?;
            }
        }
        writer.write_config(config)?;
        writer.copy_side_files(from)?;
        Ok(writer.finish()?)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no panic while held")
    }
}

/// The tensors that one tensor of the plan becomes.
fn specs(tensor: &IntTensor) -> Vec<TensorSpec> {
    let Some(grid) = tensor.grid else {
        let (name, shape) = (tensor.hf_name.clone(), tensor.shape.clone());
        return vec![TensorSpec { name, dtype: tensor.dtype, shape }];
    };
    let packing = grid.scheme();
    let ([rows, columns], packing) = (matrix(tensor), packing.packing());
    let groups = columns / grid.group_len();
    let spec = |part, dtype, shape| TensorSpec { name: name(tensor, part), dtype, shape };
    let mut specs = vec![
        spec(part::PACKED, Dtype::I32, vec![rows, packing.words(columns)]),
        spec(part::SCALE, grid.scale_dtype(), vec![rows, groups]),
        spec(part::SHAPE, Dtype::I64, vec![2]),
    ];
    if !packing.symmetric {
        specs.push(spec(part::ZERO_POINT, Dtype::I32, vec![packing.words(rows), groups]));
    }
    specs
}

/// The name of a part of a weight.
fn name(tensor: &IntTensor, part: &str) -> String {
    format!("{}{part}", tensor.hf_name.trim_end_matches("weight"))
}

fn matrix(tensor: &IntTensor) -> [usize; 2] {
    [tensor.shape[0], tensor.shape[1]]
}

/// Packs `zeros` (`[rows, groups]`) down the columns: words `[⌈rows · bits / 32⌉, groups]`.
fn pack_down(grid: IntGrid, zeros: &[u8], [rows, columns]: [usize; 2]) -> Vec<u8> {
    let groups = columns / grid.group_len();
    let packing = grid.scheme();
    let (words, bits) = (packing.packing().words(rows), packing.packing().bits);
    let mut packed = vec![0; words * groups * bits::WORD_BYTES];
    let mut run = vec![0; words * bits::WORD_BYTES];
    for group in 0..groups {
        let column: Vec<u8> = zeros.iter().skip(group).step_by(groups).copied().collect();
        bits::pack(&column, bits, &mut run);
        for (n, word) in run.chunks_exact(bits::WORD_BYTES).enumerate() {
            packed[(n * groups + group) * bits::WORD_BYTES..][..bits::WORD_BYTES].copy_from_slice(word);
        }
    }
    packed
}
