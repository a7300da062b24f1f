//! The block walker: calibration batches through the model, one block in memory at a time.
//!
//! Peak memory is one block and the hidden states, never the model.

use slmc_model::{Block, BurnDevice, Context, Tensor, WeightSource, embed};

use crate::PipelineError;
use crate::progress::{Reporter, Unit};

/// Tokens that run through a block together: enough rows for the matrix products to reach their rate.
const BATCH_TOKENS: usize = 4096;

/// The hidden states in front of a block: `[sequences, seq_len, hidden_size]` each, the sequences in calibration order.
pub type HiddenStates = Vec<Tensor<3>>;

/// Walks through all blocks. For each, `visit` gets its number, the block and the hidden states in front of it; it must leave
/// those behind it. The hidden states behind the last block are returned.
///
/// `sequences` must all have the same length.
///
/// # Errors
/// Loading or running fails, or `visit` does; the user cancels.
pub fn walk(
    source: &dyn WeightSource,
    sequences: &[Vec<u32>],
    device: &BurnDevice,
    reporter: &dyn Reporter,
    mut visit: impl FnMut(usize, &mut Block, &mut HiddenStates, &Context) -> Result<(), PipelineError>,
) -> Result<HiddenStates, PipelineError> {
    let config = source.config();
    let seq_len = sequences.first().map_or(0, Vec::len);
    let context = Context::new(config, seq_len, device, source.kv_precision());
    let mut hidden = HiddenStates::new();
    for batch in sequences.chunks((BATCH_TOKENS / seq_len.max(1)).max(1)) {
        hidden.push(embed(source, &batch.concat(), seq_len, device)?);
    }
    reporter.begin("Calibrating", config.num_hidden_layers as u64, Unit::Steps);
    for layer in 0..config.num_hidden_layers {
        if reporter.is_cancelled() {
            return Err(PipelineError::Cancelled);
        }
        reporter.status(&format!("block {layer}"));
        let mut block = Block::load(source, layer, device)?;
        visit(layer, &mut block, &mut hidden, &context)?;
        reporter.advance(1);
    }
    reporter.end();
    Ok(hidden)
}
