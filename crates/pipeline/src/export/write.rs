//! Rounding every tensor to its planned type and writing it, a few rows at a time on every thread.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde::Serialize;
use slmc_gguf::TensorType;
use slmc_gguf::container::Writer;
use slmc_quant::loss::InputStatistics;
use slmc_quant::plan::StoredType;
use slmc_quant::{Grid, Plan};

use super::{ExportTensor, OutputError, OutputErrorMeter, RowReader, Rows};
use crate::PipelineError;
use crate::awq::{Calibrated, Inputs};
use crate::progress::{Reporter, Unit};
use crate::zeros::KeptZeros;

/// Weights that one task reads, rounds and writes: the buffers fit the L2 cache's neighbourhood, the writes are long.
const TASK_WEIGHTS: usize = 256 * 1024;

/// What became of one tensor.
#[derive(Clone, Debug, Serialize)]
pub struct TensorReport {
    /// Its name in the file.
    pub name: String,
    /// How its values are stored.
    #[serde(rename = "type")]
    pub ty: StoredType,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Bytes of its data.
    pub bytes: u64,
    /// ‖Ŵ − W‖ / ‖W‖ (Frobenius norms), against the weights as they were rounded; 0 for a tensor of zeros.
    pub relative_error: f64,
    /// What that changes in the outputs, where calibration told what comes in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_error: Option<OutputError>,
    /// What became of the zeros of a pruned tensor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zeros: Option<KeptZeros>,
}

/// Some rows of one tensor.
struct Task {
    tensor: usize,
    rows: Range<usize>,
}

/// Sums of squares of a task's rounding errors and of its weights.
#[derive(Clone, Copy, Default)]
struct Squares {
    error: f64,
    weight: f64,
}

/// What a task measured.
#[derive(Default)]
struct Measured {
    squares: Squares,
    outputs: Option<OutputErrorMeter>,
}

/// Writes all tensors as planned but those that `done` reports on; reports on all, in the plan's order. `calibrated` holds, by
/// GGUF name, what each column's squared error weighs, and products of inputs; tensors without an entry are rounded plainly. The bytes do not depend on the number of threads.
///
/// # Errors
/// Reading, rounding or writing fails; the user cancels.
pub fn write_tensors(
    reader: &RowReader<'_>,
    tensors: &[ExportTensor],
    plan: &Plan,
    calibrated: &Calibrated,
    done: Vec<TensorReport>,
    writer: &Writer,
    reporter: &dyn Reporter,
) -> Result<Vec<TensorReport>, PipelineError> {
    let mut done: HashMap<_, _> = done.into_iter().map(|report| (report.name.clone(), report)).collect();
    let tasks = tasks(reader, tensors, |name| !done.contains_key(name));
    let weights = tasks.iter().map(|t| (t.rows.len() * tensors[t.tensor].columns()) as u64).sum();
    reporter.begin("Writing", weights, Unit::Weights);
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let results: Vec<Mutex<Measured>> = tasks.iter().map(|_| Mutex::default()).collect();
    let outcome: Vec<Result<(), PipelineError>> = rayon::broadcast(|_| {
        let mut buffers = Buffers::default();
        while !stop.load(Ordering::Relaxed) {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let Some(task) = tasks.get(n) else { return Ok(()) };
            let (tensor, planned) = (&tensors[task.tensor], &plan.tensors[task.tensor]);
            let inputs = calibrated.of(&tensor.name);
            let done = if reporter.is_cancelled() {
                Err(PipelineError::Cancelled)
            } else {
                buffers.run(reader, tensor, planned.ty, task.rows.clone(), inputs, writer)
            };
            match done {
                Ok(measured) => *results[n].lock().expect("no panic while held") = measured,
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
            reporter.advance((task.rows.len() * tensor.columns()) as u64);
        }
        Ok(())
    });
    reporter.end();
    outcome.into_iter().collect::<Result<Vec<()>, _>>()?;

    let mut sums: Vec<Measured> = tensors.iter().map(|_| Measured::default()).collect();
    for (task, result) in tasks.iter().zip(results) {
        sums[task.tensor].add(result.into_inner().expect("no panic while held"));
    }
    let written = plan.tensors.iter().zip(sums);
    Ok(written
        .map(|(planned, sum)| done.remove(&planned.name).unwrap_or_else(|| report(planned, &sum)))
        .collect())
}

impl Measured {
    fn add(&mut self, part: Self) {
        self.squares.error += part.squares.error;
        self.squares.weight += part.squares.weight;
        match (&mut self.outputs, part.outputs) {
            (Some(outputs), Some(part)) => outputs.merge(&part),
            (outputs @ None, part) => *outputs = part,
            (Some(_), None) => {}
        }
    }
}

fn report(planned: &slmc_quant::PlannedTensor, measured: &Measured) -> TensorReport {
    let sum = measured.squares;
    TensorReport {
        name: planned.name.clone(),
        ty: planned.ty.into(),
        shape: planned.shape.clone(),
        bytes: planned.bytes,
        relative_error: if sum.weight > 0.0 { (sum.error / sum.weight).sqrt() } else { 0.0 },
        output_error: measured.outputs.as_ref().map(OutputErrorMeter::finish),
        zeros: None,
    }
}

fn tasks(reader: &RowReader<'_>, tensors: &[ExportTensor], is_wanted: impl Fn(&str) -> bool) -> Vec<Task> {
    let mut tasks = Vec::new();
    for (tensor, export) in tensors.iter().enumerate().filter(|(_, export)| is_wanted(&export.name)) {
        let unit = reader.row_unit(export);
        let step = (TASK_WEIGHTS / (export.columns() * unit).max(1)).max(1) * unit;
        let rows = export.rows();
        tasks.extend(
            (0..rows).step_by(step).map(|first| Task { tensor, rows: first..rows.min(first + step) }),
        );
    }
    tasks
}

/// One thread's working space.
#[derive(Default)]
struct Buffers {
    values: Vec<f32>,
    scratch: Vec<f32>,
    bytes: Vec<u8>,
}

impl Buffers {
    fn run(
        &mut self,
        reader: &RowReader<'_>,
        tensor: &ExportTensor,
        ty: TensorType,
        rows: Range<usize>,
        inputs: Inputs<'_>,
        writer: &Writer,
    ) -> Result<Measured, PipelineError> {
        let columns = tensor.columns();
        reader.read(tensor, rows.clone(), &mut self.values, &mut self.scratch)?;
        let failed = |source| PipelineError::Rounding { tensor: tensor.name.clone(), source };
        let row_bytes = Grid::row_bytes(ty, columns).ok_or_else(|| {
            failed(slmc_quant::QuantError::Columns {
                grid: ty.to_string(),
                block_len: ty.block_len(),
                columns,
            })
        })?;
        self.bytes.resize(rows.len() * row_bytes, 0);
        ty.encode(&self.values, columns, inputs.importance, &mut self.bytes).map_err(failed)?;
        if let Some(gram) = inputs.gram {
            ty.refine(&self.values, columns, gram, &mut self.bytes).map_err(failed)?;
        }
        writer.write(&tensor.name, (rows.start * row_bytes) as u64, &self.bytes)?;
        if ty == TensorType::F32 {
            return Ok(Measured { squares: Squares { error: 0.0, weight: 1.0 }, outputs: None });
        }
        self.scratch.resize(self.values.len(), 0.0);
        ty.decode(&self.bytes, &mut self.scratch).map_err(failed)?;
        let outputs = inputs.importance.map(|importance| {
            let (weights, stored) = (self.values.as_slice(), self.scratch.as_slice());
            let (first, scales) = (rows.start, reader.column_scales(tensor));
            let rows = Rows { first, columns, weights, targets: weights, rounded: stored, scales };
            let mut meter = OutputErrorMeter::new(tensor.rows());
            let known =
                inputs.gram.map_or(InputStatistics::SecondMoments(importance), InputStatistics::Products);
            meter.add(ty, rows, known)?;
            Ok(meter)
        });
        let squares = squares(&self.values, &self.scratch);
        Ok(Measured { squares, outputs: outputs.transpose().map_err(failed)? })
    }
}

/// Σ (ŵ − w)² and Σ w²: sixteen f32 lanes over at most 4096 values, then f64.
fn squares(weights: &[f32], rounded: &[f32]) -> Squares {
    const LANES: usize = 16;
    let mut sum = Squares::default();
    for (weights, rounded) in weights.chunks(4096).zip(rounded.chunks(4096)) {
        let (mut error, mut weight) = ([0f32; LANES], [0f32; LANES]);
        let mut pairs = weights.chunks_exact(LANES).zip(rounded.chunks_exact(LANES));
        for (w, r) in &mut pairs {
            for i in 0..LANES {
                let difference = r[i] - w[i];
                error[i] += difference * difference;
                weight[i] += w[i] * w[i];
            }
        }
        let rest = weights.len() / LANES * LANES;
        for (w, r) in weights[rest..].iter().zip(&rounded[rest..]) {
            error[0] += (r - w) * (r - w);
            weight[0] += w * w;
        }
        sum.error += error.iter().map(|&e| f64::from(e)).sum::<f64>();
        sum.weight += weight.iter().map(|&w| f64::from(w)).sum::<f64>();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squares_count_every_value() {
        let weights: Vec<f32> = (0..5000).map(|i| (i % 7) as f32).collect();
        let rounded: Vec<f32> = weights.iter().map(|w| w + 0.5).collect();
        let sum = squares(&weights, &rounded);
        assert_eq!(sum.error, 1250.0);
        assert_eq!(sum.weight, weights.iter().map(|w| f64::from(w * w)).sum::<f64>());
    }
}
