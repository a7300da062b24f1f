//! What the written checkpoint really holds.

use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;
use slmc_checkpoint::Checkpoint;
use slmc_prune::PrunePlan;
use slmc_prune::plan::PlannedTensor;

use crate::PipelineError;
use crate::export::TensorReport;

/// Weights that are looked at together.
const CHUNK_WEIGHTS: usize = 1 << 22;

/// What became of a tensor, with what was counted in the file.
#[derive(Clone, Debug, Serialize)]
pub struct PrunedTensor {
    /// Its report.
    #[serde(flatten)]
    pub report: TensorReport,
    /// Weights that are zero in the written file.
    pub zeros: u64,
    /// Their share.
    pub sparsity: f64,
}

/// Reads the checkpoint at `output` back and counts the zeros of every tensor that was to be pruned.
///
/// # Errors
/// It cannot be read; a tensor has fewer zeros than planned.
pub fn verify(
    output: &Path,
    plan: &PrunePlan,
    reports: Vec<TensorReport>,
) -> Result<Vec<PrunedTensor>, PipelineError> {
    let checkpoint = Checkpoint::open(output)?;
    let count = |(report, planned): (TensorReport, &PlannedTensor)| {
        let zeros = count_zeros(&checkpoint, planned)?;
        if let Some(expected) = planned.pruned.filter(|expected| zeros < *expected) {
            let tensor = planned.hf_name.clone();
            return Err(PipelineError::NotPruned { path: output.to_owned(), tensor, expected, found: zeros });
        }
        Ok(PrunedTensor { report, zeros, sparsity: zeros as f64 / planned.weights().max(1) as f64 })
    };
    reports.into_iter().zip(&plan.tensors).map(count).collect()
}

/// Zeros of a tensor, some rows at a time: embeddings are large.
fn count_zeros(checkpoint: &Checkpoint, planned: &PlannedTensor) -> Result<u64, PipelineError> {
    let (rows, columns) = (planned.shape[0], planned.shape[1..].iter().product::<usize>());
    let step = (CHUNK_WEIGHTS / columns.max(1)).max(1);
    let (mut values, mut zeros) = (Vec::new(), 0);
    for first in (0..rows).step_by(step) {
        let rows = first..rows.min(first + step);
        values.resize(rows.len() * columns, 0.0);
        checkpoint.read_rows_f32(&planned.hf_name, rows.clone(), &mut values)?;
        checkpoint.release_rows(&planned.hf_name, rows)?;
        zeros += values.par_iter().filter(|w| **w == 0.0).count() as u64;
    }
    Ok(zeros)
}
