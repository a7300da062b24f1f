//! Rounding tensors plainly and writing them, one after the other, rows in parallel.

use std::collections::HashMap;

use slmc_quant::loss::relative_error;
use slmc_quant::plan::IntTensor;
use slmc_quant::rtn::{dequantize_rows, quantize_rows};
use slmc_quant::{Grid, IntPlan, QuantError};

use super::PackedWriter;
use crate::PipelineError;
use crate::export::{ExportTensor, RowReader, TensorReport};
use crate::progress::{Reporter, Unit};

/// Weights that are read, rounded and written together: enough for all threads.
const CHUNK_WEIGHTS: usize = 1 << 22;

/// Writes all tensors as planned but those that `done` reports on; reports on all, in the plan's order. `importance` holds, by
/// GGUF name, the weights of each column's squared error (`[d_in]`); layers without an entry are rounded plainly.
///
/// # Errors
/// Reading, rounding or writing fails; the user cancels.
pub fn write_tensors(
    reader: &RowReader<'_>,
    tensors: &[ExportTensor],
    plan: &IntPlan,
    importance: &HashMap<String, Vec<f32>>,
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
        let importance = importance.get(&planned.name).map(Vec::as_slice);
        let encode =
            |grid, rows: &[f32], columns, out: &mut [u8]| quantize_rows(grid, rows, columns, importance, out);
        reports.push(write_tensor(reader, tensor, planned, writer, encode, |values, _| {
            reporter.advance(values.len() as u64);
            if reporter.is_cancelled() { Err(PipelineError::Cancelled) } else { Ok(()) }
        })?);
    }
    reporter.end();
    Ok(reports)
}

/// Reads a tensor, rounds it by `encode` (grid, rows, columns, out) where it has a grid, and writes it. `keep` gets its values
/// as they will be read, some rows at a time, and the encoded rows, which are none where it has no grid.
pub(super) fn write_tensor(
    reader: &RowReader<'_>,
    tensor: &ExportTensor,
    planned: &IntTensor,
    writer: &PackedWriter,
    encode: impl Fn(slmc_quant::IntGrid, &[f32], usize, &mut [u8]) -> Result<(), QuantError>,
    mut keep: impl FnMut(&[f32], &[u8]) -> Result<(), PipelineError>,
) -> Result<TensorReport, PipelineError> {
    let failed = |source: QuantError| PipelineError::Rounding { tensor: planned.hf_name.clone(), source };
    let columns = tensor.columns();
    let step = (CHUNK_WEIGHTS / columns).max(1);
    let (mut weights, mut scratch, mut bytes, mut rounded) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut error, mut energy) = (0.0, 0.0);
    for first in (0..tensor.rows()).step_by(step) {
        let rows = first..tensor.rows().min(first + step);
        reader.read(tensor, rows.clone(), &mut weights, &mut scratch)?;
        let Some(grid) = planned.grid else {
            writer.write_values(planned, first * columns, &weights)?;
            keep(&weights, &[])?;
            continue;
        };
        let row_bytes = Grid::row_bytes(grid, columns).ok_or_else(|| {
            failed(QuantError::Columns { grid: grid.name(), block_len: grid.block_len(), columns })
        })?;
        bytes.resize(rows.len() * row_bytes, 0);
        encode(grid, &weights, columns, &mut bytes).map_err(failed)?;
        writer.write_rows(planned, grid, first, &bytes)?;
        rounded.resize(weights.len(), 0.0);
        dequantize_rows(grid, &bytes, columns, &mut rounded).map_err(failed)?;
        let part: f64 = weights.iter().map(|w| f64::from(*w).powi(2)).sum();
        error += relative_error(&weights, &rounded).map_err(failed)?.powi(2) * part;
        energy += part;
        keep(&rounded, &bytes)?;
    }
    Ok(report(planned, if energy > 0.0 { (error / energy).sqrt() } else { 0.0 }))
}

/// What became of a tensor.
pub(super) fn report(planned: &IntTensor, relative_error: f64) -> TensorReport {
    TensorReport {
        name: planned.hf_name.clone(),
        ty: planned.ty,
        shape: planned.shape.clone(),
        bytes: planned.bytes,
        relative_error,
    }
}
