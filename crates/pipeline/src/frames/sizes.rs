//! What a model weighs, by what its tensors are for.

use std::path::Path;

use slmc_model::arch::Role;
use slmc_report::{Measurement, Metric, Rows, Scope};

use super::about;
use crate::PipelineError;
use crate::jobs::inspect::{Inspection, inspect};
use crate::model_file::ModelFile;

/// Kinds of tensors, in the order they have in a model.
const KINDS: [&str; 6] = ["embedding", "attention", "feed-forward", "norms", "head", "other"];

/// Bytes and bits a weight of the model and of its base, whole and by kind of tensor.
pub(super) fn rows(model: &Path, base: Option<&Path>) -> Result<Vec<Measurement>, PipelineError> {
    let mut rows = about(model, base);
    add(&mut rows, model)?;
    let mut all = rows.finish();
    if let Some(base) = base {
        let mut rows = about(base, None);
        add(&mut rows, base)?;
        all.extend(rows.finish());
    }
    Ok(all)
}

fn add(rows: &mut Rows, path: &Path) -> Result<(), PipelineError> {
    let inspection = inspect(path)?;
    rows.add(Scope::Summary, Metric::Bytes).value(inspection.bytes as f64);
    rows.add(Scope::Summary, Metric::BitsPerWeight).value(inspection.bits_per_weight);
    for (kind, [bytes, weights]) in KINDS.into_iter().zip(by_kind(path, &inspection)?) {
        if weights > 0 {
            rows.add(Scope::Kind, Metric::Bytes).item(kind).value(bytes as f64);
            rows.add(Scope::Kind, Metric::Weights).item(kind).value(weights as f64);
        }
    }
    Ok(())
}

/// Bytes and weights of each of [`KINDS`].
fn by_kind(path: &Path, inspection: &Inspection) -> Result<[[u64; 2]; 6], PipelineError> {
    let model = ModelFile::open(path)?;
    let source = model.source()?;
    let arch = source.config().arch;
    let mut sums = [[0; 2]; KINDS.len()];
    for tensor in &inspection.tensors {
        let id = match &model {
            ModelFile::Checkpoint(_) => arch.by_hf_name(&tensor.name),
            ModelFile::Gguf(_) => arch.by_gguf_name(&tensor.name),
        };
        let sum = &mut sums[kind(id.map(|id| id.role))];
        sum[0] += tensor.bytes;
        sum[1] += tensor.shape.iter().map(|&d| d as u64).product::<u64>();
    }
    Ok(sums)
}

/// Which of [`KINDS`].
fn kind(role: Option<Role>) -> usize {
    use Role::*;
    match role {
        Some(TokenEmbedding) => 0,
        Some(QueryKeyValue | Query | QueryBias | Key | KeyBias | Value | ValueBias | Output | OutputBias) => {
            1
        }
        Some(GateUp | Gate | GateBias | Up | UpBias | Down | DownBias) => 2,
        Some(
            InputNorm | QueryNorm | KeyNorm | AttentionOutputNorm | PostNorm | MlpOutputNorm | FinalNorm,
        ) => 3,
        Some(Head) => 4,
        None => 5,
    }
}
