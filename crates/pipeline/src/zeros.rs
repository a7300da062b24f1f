//! Zeros of a pruned checkpoint on their way through quantizing: counted before, and counted again in what was written.

use std::collections::HashMap;
use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;
use slmc_model::{ModelConfig, TensorId, WeightSource};
use slmc_quant::plan::{KeepZeros, PlannedZeros};

use crate::PipelineError;
use crate::export::TensorReport;
use crate::model_file::ModelFile;

/// Rows of a tensor that tell whether it was pruned.
const SAMPLED_ROWS: usize = 64;

/// Weights that are compared at a time.
const CHUNK_WEIGHTS: usize = 1 << 22;

/// What became of a tensor's zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KeptZeros {
    /// Weights of the checkpoint that are zero.
    pub before: u64,
    /// Those of them that are zero in the written file, counted by decoding it.
    pub kept: u64,
}

impl KeptZeros {
    /// Of all tensors together; `None` where none was looked at.
    pub fn total(tensors: &[TensorReport]) -> Option<Self> {
        let counted = tensors.iter().filter_map(|tensor| tensor.zeros);
        counted.reduce(|a, b| Self { before: a.before + b.before, kept: a.kept + b.kept })
    }
}

/// Which weights may be stored as anything: those that are not zero.
pub(crate) fn free(weights: &[f32]) -> Vec<bool> {
    weights.iter().map(|w| *w != 0.0).collect()
}

/// The shares of zeros of matrices, by GGUF name: of some evenly spaced rows, or, where all zeros are to stay, of all.
///
/// # Errors
/// A tensor cannot be read.
pub(crate) fn shares<'a>(
    source: &dyn WeightSource,
    matrices: impl Iterator<Item = &'a str>,
    keep: KeepZeros,
) -> Result<HashMap<String, f64>, PipelineError> {
    let mut shares = HashMap::new();
    if keep == KeepZeros::Never {
        return Ok(shares);
    }
    for name in matrices {
        let Some((id, [rows, columns])) = matrix(source.config(), name) else { continue };
        let (count, step) = match keep {
            KeepZeros::Always => (rows, (CHUNK_WEIGHTS / columns).max(1)),
            _ => (rows.min(SAMPLED_ROWS), 1),
        };
        let mut zeros = 0;
        for first in (0..count).step_by(step) {
            let at = if step == 1 { first * rows / count } else { first };
            let values = source.load_rows(id, at..(at + step).min(rows))?.values;
            zeros += values.par_iter().filter(|w| **w == 0.0).count();
        }
        source.release(id);
        shares.insert(name.to_owned(), zeros as f64 / (count * columns) as f64);
    }
    Ok(shares)
}

/// Counts the zeros of the tensors that have some planned, in `source` and of those the ones in the file or directory `output`, and
/// notes them in the tensors' reports.
///
/// # Errors
/// Either cannot be read; zeros that were to stay are none.
pub(crate) fn count<'a>(
    source: &dyn WeightSource,
    output: &Path,
    tensors: impl Iterator<Item = ((&'a str, Option<PlannedZeros>), &'a mut TensorReport)>,
) -> Result<(), PipelineError> {
    let mut written = None;
    for ((name, planned), report) in tensors {
        let (Some(planned), Some((id, shape))) = (planned, matrix(source.config(), name)) else { continue };
        if written.is_none() {
            written = Some(ModelFile::open(output)?.source()?);
        }
        let Some(written) = &written else { continue };
        let zeros = compare(source, written.as_ref(), id, shape)?;
        if planned.held && zeros.kept < zeros.before {
            return Err(PipelineError::ZerosLost {
                path: output.to_owned(),
                tensor: name.to_owned(),
                expected: zeros.before,
                found: zeros.kept,
            });
        }
        report.zeros = Some(zeros);
    }
    Ok(())
}

fn compare(
    before: &dyn WeightSource,
    after: &dyn WeightSource,
    id: TensorId,
    [rows, columns]: [usize; 2],
) -> Result<KeptZeros, PipelineError> {
    let mut zeros = KeptZeros::default();
    let step = (CHUNK_WEIGHTS / columns).max(1);
    for first in (0..rows).step_by(step) {
        let rows = first..rows.min(first + step);
        let (before, after) = (before.load_rows(id, rows.clone())?.values, after.load_rows(id, rows)?.values);
        let zero = |values: &[f32]| values.par_iter().filter(|w| **w == 0.0).count() as u64;
        zeros.before += zero(&before);
        let both = before.par_iter().zip(&after).filter(|(before, after)| **before == 0.0 && **after == 0.0);
        zeros.kept += both.count() as u64;
    }
    before.release(id);
    after.release(id);
    Ok(zeros)
}

fn matrix(config: &ModelConfig, name: &str) -> Option<(TensorId, [usize; 2])> {
    let id = config.arch.by_gguf_name(name)?;
    match config.shape(id.role)[..] {
        [rows, columns] if rows > 0 && columns > 0 => Some((id, [rows, columns])),
        _ => None,
    }
}
