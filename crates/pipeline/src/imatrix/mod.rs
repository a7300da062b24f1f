//! The importance matrix of a model: gathered on calibration text, or taken from a file.

mod file;

use std::collections::{BTreeMap, HashMap};

use slmc_calibration::statistics::ColumnMoments;
use slmc_gguf::imatrix::Entry;
use slmc_model::{Device, Head, LinearInput, ModelError, TensorId, WeightSource};

use crate::PipelineError;
use crate::moments::{BlockMoments, head_moments};
use crate::progress::Reporter;
use crate::walker::walk;

pub use file::ImportanceFile;

/// Gathers the sums of squares of the inputs of all linear layers and of the head on calibration `sequences` (token ids, all
/// of one length), by GGUF name. Layers that share an input get equal entries. The head's entry has the embedding's name
/// where they are one; llama-imatrix leaves that one out.
///
/// # Errors
/// The model cannot be run; an activation is not finite, or a sum too large for f32; the user cancels.
pub fn gather(
    source: &dyn WeightSource,
    sequences: &[Vec<u32>],
    device: Device,
    reporter: &dyn Reporter,
) -> Result<BTreeMap<String, Entry>, PipelineError> {
    let config = source.config();
    let device = device.burn().map_err(ModelError::from)?;
    let mut entries = BTreeMap::new();
    let mut add = |id: TensorId, moments: &ColumnMoments| -> Result<(), PipelineError> {
        let Some(name) = config.arch.gguf_name(id) else { return Ok(()) };
        let sums = moments.sum_squares().into_iter().map(|sum| sum as f32).collect();
        let entry = Entry::new(sums, &[moments.tokens() as f64])
            .map_err(|source| PipelineError::ImportanceEntry { tensor: name.clone(), source })?;
        entries.insert(name, entry);
        Ok(())
    };
    let hidden = walk(source, sequences, &device, reporter, |layer, block, hidden, context| {
        let mut moments = BlockMoments::new(layer);
        // the states are handed over, so that the block can add onto them in place
        let outputs = hidden.drain(..).map(|states| block.forward(states, context, &mut moments));
        *hidden = outputs.collect::<Result<_, ModelError>>()?;
        for (input, moments) in LinearInput::ALL.into_iter().zip(moments.finish()) {
            for &role in input.roles() {
                add(TensorId::block(layer, role), &moments)?;
            }
        }
        Ok(())
    })?;
    add(config.head(), &head_moments(&Head::load(source, &device)?, hidden)?)?;
    Ok(entries)
}

/// E\[x²\] of every column, by GGUF name, of those entries that saw tokens.
pub fn importance(entries: &BTreeMap<String, Entry>) -> HashMap<String, Vec<f32>> {
    entries.iter().filter_map(|(name, entry)| Some((name.clone(), entry.importance()?))).collect()
}
