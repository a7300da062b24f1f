//! Rows of a tensor as GGUF wants them: converted, rescaled, interleaved.

use std::ops::Range;

use slmc_checkpoint::Checkpoint;
use slmc_model::arch::permute_rows;

use super::{ExportTensor, Origin};
use crate::PipelineError;
use crate::rescaling::Rescaling;

/// Reads rows of the checkpoint for export. Several threads may read at once.
pub struct RowReader<'a> {
    checkpoint: &'a Checkpoint,
    rescaling: &'a Rescaling,
}

impl<'a> RowReader<'a> {
    /// Reads from `checkpoint`, applying `rescaling`.
    pub fn new(checkpoint: &'a Checkpoint, rescaling: &'a Rescaling) -> Self {
        Self { checkpoint, rescaling }
    }

    /// What the tensor's columns are multiplied by, if by anything.
    pub fn column_scales(&self, tensor: &ExportTensor) -> Option<&[f32]> {
        self.rescaling.of(&tensor.name)?.columns.as_deref()
    }

    /// Rows that may be read together: a multiple of this many, or the rest. Interleaving needs whole heads.
    pub fn row_unit(&self, tensor: &ExportTensor) -> usize {
        match &tensor.origin {
            Origin::Stored { permuted_heads: Some(heads), .. } if tensor.shape.len() == 2 => {
                tensor.rows() / heads
            }
            _ => 1,
        }
    }

    /// Reads `rows` (of the file to be written) into `values` (`[rows, columns]`); `scratch` is working space.
    ///
    /// # Errors
    /// The checkpoint cannot be read, or holds NaN or infinity there.
    pub fn read(
        &self,
        tensor: &ExportTensor,
        rows: Range<usize>,
        values: &mut Vec<f32>,
        scratch: &mut Vec<f32>,
    ) -> Result<(), PipelineError> {
        let columns = tensor.columns();
        values.resize(rows.len() * columns, 0.0);
        let (hf_name, permuted_heads, offset, leaves_offset_out) = match &tensor.origin {
            Origin::Computed(computed) => {
                values.copy_from_slice(computed);
                return Ok(());
            }
            Origin::Stored { hf_name, permuted_heads, offset, leaves_offset_out } => {
                (hf_name, *permuted_heads, *offset, *leaves_offset_out)
            }
        };
        let vector = tensor.shape.len() < 2;
        let stored_rows = if vector { 0..columns } else { rows.clone() };
        self.checkpoint.read_rows_f32(hf_name, stored_rows.clone(), values)?;
        self.checkpoint.release_rows(hf_name, stored_rows)?;
        let scales = self.rescaling.of(&tensor.name);
        let add = |values: &mut [f32], offset: f32| values.iter_mut().for_each(|value| *value += offset);
        // Values that go back as they came are not rounded by adding and taking away.
        if offset != 0.0 && (scales.is_some() || !leaves_offset_out) {
            add(values, offset);
        }
        if let Some(scales) = scales {
            scales.apply(values, if vector { 1 } else { columns }, if vector { 0 } else { rows.start });
            if offset != 0.0 && leaves_offset_out {
                add(values, -offset);
            }
        }
        if let Some(heads) = permuted_heads {
            let (heads, row) =
                if vector { (heads, 1) } else { (rows.len() * heads / tensor.rows(), columns) };
            scratch.resize(values.len(), 0.0);
            permute_rows(values, scratch, heads, row);
            std::mem::swap(values, scratch);
        }
        Ok(())
    }
}
