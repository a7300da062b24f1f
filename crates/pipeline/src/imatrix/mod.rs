//! The importance matrix of a model: gathered on calibration text, or taken from a file.

mod file;
mod stored;

use std::collections::{BTreeMap, HashMap};

use slmc_calibration::statistics::ColumnMoments;
use slmc_gguf::imatrix::Entry;
use slmc_model::{Head, LinearInput, ModelConfig, TensorId};

use crate::PipelineError;
use crate::moments::{InputMoments, head_moments};
use crate::walker::{Walk, run_block};
use crate::work::{Step, Work};

pub use file::ImportanceFile;

/// Gathers the sums of squares of the inputs of all linear layers and of the head on calibration sequences, by GGUF name.
/// Layers that share an input get equal entries. The head's entry has the embedding's name where they are one; llama-imatrix
/// leaves that one out. With a work directory, what a block gave is kept there, and taken from there where an earlier run
/// found it.
///
/// # Errors
/// The model cannot be run; an activation is not finite, or a sum too large for f32; the work directory cannot be read or
/// written; the user cancels.
pub fn gather(walk: &Walk<'_>, work: Option<&Work>) -> Result<BTreeMap<String, Entry>, PipelineError> {
    let (source, config) = (walk.source, walk.source.config());
    let mut entries = BTreeMap::new();
    let finished = work.map_or(0, |work| work.finished_blocks(Step::CalibratedBlock));
    for layer in 0..finished {
        stored::restore(work, Step::CalibratedBlock(layer), &mut entries)?;
    }
    if stored::restore(work, Step::CalibratedHead, &mut entries)? {
        return Ok(entries);
    }
    let hidden = Walk { finished, ..*walk }.blocks(|layer, block, hidden, context| {
        if layer < finished {
            return run_block(block, hidden, context);
        }
        let mut moments = InputMoments::new(layer);
        hidden.replace(|states| Ok(block.forward(states, context, &mut moments)?))?;
        let mut found = Vec::new();
        for (input, moments) in LinearInput::ALL.into_iter().zip(moments.finish()) {
            for role in input.roles(config) {
                found.extend(entry(config, TensorId::block(layer, role), &moments)?);
            }
        }
        stored::store(work, Step::CalibratedBlock(layer), &found)?;
        entries.extend(found);
        Ok(())
    })?;
    let moments = head_moments(&Head::load(source, walk.device)?, &hidden)?;
    let found: Vec<_> = entry(config, config.head(), &moments)?.into_iter().collect();
    stored::store(work, Step::CalibratedHead, &found)?;
    entries.extend(found);
    Ok(entries)
}

/// A tensor's name in GGUF, if it has one, and its entry.
fn entry(
    config: &ModelConfig,
    id: TensorId,
    moments: &ColumnMoments,
) -> Result<Option<(String, Entry)>, PipelineError> {
    let Some(name) = config.arch.gguf_name(id) else { return Ok(None) };
    let sums = moments.sum_squares().into_iter().map(|sum| sum as f32).collect();
    match Entry::new(sums, &[moments.tokens() as f64]) {
        Ok(entry) => Ok(Some((name, entry))),
        Err(source) => Err(PipelineError::ImportanceEntry { tensor: name, source }),
    }
}

/// E\[x²\] of every column, by GGUF name, of those entries that saw tokens.
pub fn importance(entries: &BTreeMap<String, Entry>) -> HashMap<String, Vec<f32>> {
    entries.iter().filter_map(|(name, entry)| Some((name.clone(), entry.importance()?))).collect()
}
