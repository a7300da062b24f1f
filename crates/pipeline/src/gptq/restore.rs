//! Finished steps in the work directory, and back into the file and into the block that the next one's inputs come from.

use serde::{Deserialize, Serialize};
use slmc_model::{Block, LinearInput, ModelConfig, Role};

use super::RoundTensors;
use crate::PipelineError;
use crate::export::{Errors, TensorReport};
use crate::work::{Finished, Step, Work};

/// What is noted of a finished step: all that does not follow from the plan.
#[derive(Serialize, Deserialize)]
struct Facts {
    tensors: Vec<Rounded>,
}

#[derive(Serialize, Deserialize)]
struct Rounded {
    name: String,
    errors: Errors,
}

/// Notes that a step is finished, whose tensors were rounded last.
///
/// # Errors
/// The work directory cannot be written.
pub(crate) fn keep(work: &Work, step: Step, reports: &[TensorReport]) -> Result<(), PipelineError> {
    let rounded = |report: &TensorReport| Rounded {
        name: report.name.clone(),
        errors: Errors { weights: report.relative_error, outputs: report.output_error },
    };
    Ok(work.finish(step, &Facts { tensors: reports.iter().map(rounded).collect() })?)
}

/// Writes a block's tensors as an earlier run rounded them, and leaves the block with the values they stand for.
///
/// # Errors
/// They cannot be read or written, or are not as they were kept.
pub(crate) fn block(
    rounder: &dyn RoundTensors,
    finished: &Finished<'_>,
    block: &mut Block,
) -> Result<Vec<TensorReport>, PipelineError> {
    for role in roles(&block.config().clone()) {
        block.set_weight(role, rounder.restore_linear(finished, block.layer(), role)?)?;
        if let Some(bias) = rounder.added_bias(block.layer(), role) {
            block.add_bias(role, bias)?;
        }
    }
    reports(rounder, finished)
}

/// Writes all tensors of a model's blocks and the head, if an earlier run rounded every one.
///
/// # Errors
/// As [`block`].
pub(super) fn all(
    rounder: &dyn RoundTensors,
    config: &ModelConfig,
) -> Result<Option<Vec<TensorReport>>, PipelineError> {
    let (work, blocks) = (rounder.work(), config.num_hidden_layers);
    let head = work.finished(Step::RoundedHead);
    if work.finished_blocks(Step::RoundedBlock) < blocks || (rounder.needs_end() && head.is_none()) {
        return Ok(None);
    }
    let mut all = Vec::new();
    for layer in (0..blocks).filter(|layer| rounder.keeps_block(*layer)) {
        let Some(finished) = work.finished(Step::RoundedBlock(layer)) else { return Ok(None) };
        for role in roles(config) {
            rounder.restore_linear(&finished, layer, role)?;
        }
        all.extend(reports(rounder, &finished)?);
    }
    if let Some(head) = head {
        rounder.restore_head(&head)?;
        all.extend(reports(rounder, &head)?);
    }
    Ok(Some(all))
}

/// A block's linear layers, in the order they are rounded.
fn roles(config: &ModelConfig) -> impl Iterator<Item = Role> {
    LinearInput::ALL.into_iter().flat_map(move |input| input.roles(config))
}

fn reports(rounder: &dyn RoundTensors, finished: &Finished<'_>) -> Result<Vec<TensorReport>, PipelineError> {
    let facts = finished.facts::<Facts>()?;
    let report = |Rounded { name, errors }: Rounded| {
        rounder.report(&name, errors).ok_or_else(|| finished.unknown(&name).into())
    };
    facts.tensors.into_iter().map(report).collect()
}
