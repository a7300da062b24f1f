//! The block walker: calibration batches through the model, one block in memory at a time.
//!
//! Peak memory is one block and the hidden states, never the model; those may be kept in a file ([`Storage`]).

use slmc_matmul::Precision;
use slmc_model::{Block, BurnDevice, Context, NoObserver, WeightSource, embed};

use crate::PipelineError;
use crate::hidden::{HiddenStates, Storage};
use crate::memory::give_back_free_memory;
use crate::progress::{Reporter, Unit};

/// Tokens that run through a block together: enough rows for the matrix products to reach their rate.
pub const BATCH_TOKENS: usize = 4096;

/// What walks through the blocks, and how.
pub struct Walk<'a> {
    /// The model.
    pub source: &'a dyn WeightSource,
    /// Calibration sequences: token ids, all of one length.
    pub sequences: &'a [Vec<u32>],
    /// Where the model runs.
    pub device: &'a BurnDevice,
    /// Tokens that run through a block together, at least one sequence.
    pub batch_tokens: usize,
    /// Where the hidden states are kept.
    pub storage: &'a Storage,
    /// What the inputs of one linear layer may take while it is rounded, in bytes; they are computed twice where they would
    /// take more, with the same values.
    pub kept_input_bytes: u64,
    /// What blocks, and what is gathered of them, are computed in.
    pub precision: Precision,
    /// Blocks that an earlier run finished, for the progress shown: they are walked through all the same.
    pub finished: usize,
    /// Hears of the progress.
    pub reporter: &'a dyn Reporter,
}

impl<'a> Walk<'a> {
    /// From the beginning, in usual batches, with the hidden states in memory.
    pub fn new(
        source: &'a dyn WeightSource,
        sequences: &'a [Vec<u32>],
        device: &'a BurnDevice,
        reporter: &'a dyn Reporter,
    ) -> Self {
        let (batch_tokens, storage) = (BATCH_TOKENS, &Storage::Memory);
        let precision = Precision::F32;
        Self {
            source,
            sequences,
            device,
            batch_tokens,
            storage,
            kept_input_bytes: 0,
            precision,
            finished: 0,
            reporter,
        }
    }

    /// Block `layer`, as it is run here.
    ///
    /// # Errors
    /// Whatever the source reports.
    pub fn load(&self, layer: usize) -> Result<Block, PipelineError> {
        let mut block = Block::load(self.source, layer, self.device)?;
        block.set_precision(self.precision);
        Ok(block)
    }

    /// Walks through all blocks. For each, `visit` gets its number, the block and the hidden states in front of it; it must
    /// leave those behind it. The hidden states behind the last block are returned.
    ///
    /// # Errors
    /// Loading or running fails, or `visit` does; the user cancels.
    pub fn blocks(
        &self,
        mut visit: impl FnMut(usize, &mut Block, &mut HiddenStates, &Context) -> Result<(), PipelineError>,
    ) -> Result<HiddenStates, PipelineError> {
        let Self { source, sequences, device, reporter, .. } = *self;
        let config = source.config();
        let seq_len = sequences.first().map_or(0, Vec::len);
        let context = Context::new(config, seq_len, device, source.kv_precision());
        let mut hidden = HiddenStates::new(self.storage, device)?;
        for batch in sequences.chunks((self.batch_tokens / seq_len.max(1)).max(1)) {
            hidden.push(embed(source, &batch.concat(), seq_len, device)?)?;
        }
        let blocks = config.num_hidden_layers;
        if self.finished > 0 {
            reporter.begin("Resuming", self.finished as u64, Unit::Steps);
        }
        for layer in 0..blocks {
            if layer == self.finished {
                reporter.begin_at("Calibrating", blocks as u64, Unit::Steps, layer as u64);
            }
            if reporter.is_cancelled() {
                return Err(PipelineError::Cancelled);
            }
            reporter.status(&format!("block {layer}"));
            give_back_free_memory();
            let mut block = self.load(layer)?;
            visit(layer, &mut block, &mut hidden, &context)?;
            reporter.advance(1);
            if layer + 1 == self.finished {
                reporter.end();
            }
        }
        if self.finished < blocks {
            reporter.end();
        }
        Ok(hidden)
    }
}

/// Runs the hidden states through the block, replacing them by its outputs.
///
/// # Errors
/// The block cannot be run; the states cannot be kept.
pub fn run_block(block: &Block, hidden: &mut HiddenStates, context: &Context) -> Result<(), PipelineError> {
    hidden.replace(|states| Ok(block.forward(states, context, &mut NoObserver)?))
}
