//! Rounding tensors plainly and writing them, one after the other, rows in parallel.

use std::collections::HashMap;

use slmc_quant::loss::InputStatistics;
use slmc_quant::plan::IntTensor;
use slmc_quant::rtn::{dequantize_rows, quantize_rows, refine_rows};
use slmc_quant::{Grid, IntGrid, IntPlan, QuantError};

use super::PackedWriter;
use crate::PipelineError;
use crate::awq::{Calibrated, Inputs};
use crate::export::{ErrorMeter, Errors, ExportTensor, RowReader, Rows, TensorReport};
use crate::progress::{Reporter, Unit};

/// Weights that are read, rounded and written together: enough for all threads.
const CHUNK_WEIGHTS: usize = 1 << 22;

/// Writes all tensors as planned but those that `done` reports on; reports on all, in the plan's order. `calibrated` holds, by
/// GGUF name, what each column's squared error weighs, and products of inputs; layers without an entry are rounded plainly.
///
/// # Errors
/// Reading, rounding or writing fails; the user cancels.
pub fn write_tensors(
    reader: &RowReader<'_>,
    tensors: &[ExportTensor],
    plan: &IntPlan,
    calibrated: &Calibrated,
    done: Vec<TensorReport>,
    writer: &PackedWriter,
    reporter: &dyn Reporter,
) -> Result<Vec<TensorReport>, PipelineError> {
    let mut done: HashMap<_, _> = done.into_iter().map(|report| (report.name.clone(), report)).collect();
    let left: u64 =
        plan.tensors.iter().filter(|t| !done.contains_key(&t.hf_name)).map(IntTensor::weights).sum();
    reporter.begin("Writing", left, Unit::Weights);
    let mut reports = Vec::with_capacity(tensors.len());
    for (tensor, planned) in tensors.iter().zip(&plan.tensors) {
        if let Some(report) = done.remove(&planned.hf_name) {
            reports.push(report);
            continue;
        }
        let inputs = calibrated.of(&planned.name);
        reports.push(write_tensor(reader, tensor, planned, inputs, writer, reporter)?);
    }
    reporter.end();
    Ok(reports)
}

fn write_tensor(
    reader: &RowReader<'_>,
    tensor: &ExportTensor,
    planned: &IntTensor,
    Inputs { importance, gram }: Inputs<'_>,
    writer: &PackedWriter,
    reporter: &dyn Reporter,
) -> Result<TensorReport, PipelineError> {
    let failed = |source: QuantError| PipelineError::Rounding { tensor: planned.hf_name.clone(), source };
    let columns = tensor.columns();
    let step = (CHUNK_WEIGHTS / columns).max(1);
    let (mut weights, mut scratch, mut bytes, mut rounded) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut errors = ErrorMeter::new(tensor.rows());
    let alike = vec![1.0; columns];
    for first in (0..tensor.rows()).step_by(step) {
        if reporter.is_cancelled() {
            return Err(PipelineError::Cancelled);
        }
        let rows = first..tensor.rows().min(first + step);
        reader.read(tensor, rows.clone(), &mut weights, &mut scratch)?;
        reporter.advance(weights.len() as u64);
        let Some(grid) = planned.grid else {
            writer.write_values(planned, first * columns, &weights)?;
            continue;
        };
        bytes.resize(encoded_bytes(grid, rows.len(), columns).map_err(failed)?, 0);
        quantize_rows(grid, &weights, columns, importance, &mut bytes).map_err(failed)?;
        if let Some(gram) = gram {
            refine_rows(grid, &weights, columns, gram, &mut bytes).map_err(failed)?;
        }
        writer.write_rows(planned, grid, first, &bytes)?;
        rounded.resize(weights.len(), 0.0);
        dequantize_rows(grid, &bytes, columns, &mut rounded).map_err(failed)?;
        let (weights, scales) = (weights.as_slice(), reader.column_scales(tensor));
        let rows = Rows { first, columns, weights, targets: weights, rounded: &rounded, scales };
        let diagonal = InputStatistics::SecondMoments(importance.unwrap_or(&alike));
        let inputs = gram.map_or(diagonal, InputStatistics::Products);
        errors.add(grid, rows, inputs).map_err(failed)?;
    }
    let outputs = errors.finish().outputs.filter(|_| importance.is_some());
    Ok(report(planned, planned.grid.map(|_| Errors { outputs, ..errors.finish() })))
}

/// Bytes of `rows` rows of `columns` values.
pub(super) fn encoded_bytes(grid: IntGrid, rows: usize, columns: usize) -> Result<usize, QuantError> {
    let row = Grid::row_bytes(grid, columns).ok_or_else(|| QuantError::Columns {
        grid: grid.name(),
        block_len: grid.block_len(),
        columns,
    })?;
    Ok(rows * row)
}

/// What became of a tensor; without errors where it is stored as it was.
pub(super) fn report(planned: &IntTensor, errors: Option<Errors>) -> TensorReport {
    let errors = errors.unwrap_or_default();
    TensorReport {
        name: planned.hf_name.clone(),
        ty: planned.ty,
        shape: planned.shape.clone(),
        bytes: planned.bytes,
        relative_error: errors.weights,
        output_error: errors.outputs,
        zeros: None,
    }
}
