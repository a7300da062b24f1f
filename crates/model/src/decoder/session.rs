//! A sequence that is continued: keys and values of what was read are kept, so that a further token costs its own work
//! only.

use burn::tensor::Device as BurnDevice;

use super::block::Block;
use super::context::Context;
use super::embedding::look_up;
use super::head::{Head, HeadRows};
use crate::device::Device;
use crate::error::ModelError;
use crate::host;
use crate::ops::KeyValueCache;
use crate::source::WeightSource;

/// Tokens that run through the blocks together: enough for matrix products at full speed, few enough for hidden states of
/// some MiB.
const CHUNK: usize = 256;

/// One sequence and the model that reads it.
///
/// On the cpu device no weight is copied: matrices stay mapped as their file has them, and every product decodes the rows
/// it needs (see [`crate::ops::StoredRows`] and the figures there), so that an 8B model in 4 bits takes some 5 GiB and not
/// the 32 GiB of its f32 copy. Resident are the file's mapped pages, which the system may drop and read again, and 8 bytes for every token,
/// block and component of a key: keys and values are kept in f32, rounded to the source's
/// [`KvPrecision`](super::KvPrecision). Other devices hold all weights in f32.
pub struct Session<'a> {
    source: &'a dyn WeightSource,
    device: BurnDevice,
    context: Context,
    blocks: Vec<(Block, KeyValueCache)>,
    head: Head,
    head_rows: HeadRows,
    len: usize,
}

impl<'a> Session<'a> {
    /// An empty sequence that can become `positions` tokens long. Every weight is read once, so that what is wrong with
    /// them is said now.
    ///
    /// # Errors
    /// A device that is not there; whatever the source reports of its tensors.
    pub fn new(source: &'a dyn WeightSource, positions: usize, device: Device) -> Result<Self, ModelError> {
        let (config, device) = (source.config(), device.burn()?);
        let context = Context::new(config, positions, &device, source.kv_precision());
        let blocks = (0..config.num_hidden_layers).map(|layer| {
            let block = Block::open(source, layer, &device)?;
            let cache = block.cache();
            Ok((block, cache))
        });
        let blocks = blocks.collect::<Result<_, ModelError>>()?;
        let head = Head::load(source, &device)?;
        let head_rows = head.open_rows(source)?;
        Ok(Self { source, device, context, blocks, head, head_rows, len: 0 })
    }

    /// Tokens read.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was read yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How long the sequence can become.
    pub fn positions(&self) -> usize {
        self.context.positions()
    }

    /// Forgets all tokens but the first `len`.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        self.blocks.iter_mut().for_each(|(_, cache)| cache.truncate(len));
    }

    /// Reads tokens behind those read before; gives the logits after the last of them, `[vocab_size]`. How a sequence is
    /// divided into calls changes sums in their last bits only; the same calls give the same bits, with any number of
    /// threads.
    ///
    /// # Errors
    /// No tokens; more than there are positions; a token the vocabulary does not have; logits that are not finite. Then the
    /// sequence is what it was before.
    pub fn read(&mut self, tokens: &[u32]) -> Result<Vec<f32>, ModelError> {
        let before = self.len;
        let found = before + tokens.len();
        if found > self.positions() {
            return Err(ModelError::SequenceLength { expected: self.positions(), found });
        }
        // Within the thread pool, where starting a parallel step is cheap: a token takes hundreds of them.
        let logits = rayon::scope(|_| self.read_chunks(tokens));
        if logits.is_err() {
            self.truncate(before);
        }
        logits
    }

    fn read_chunks(&mut self, tokens: &[u32]) -> Result<Vec<f32>, ModelError> {
        let mut last = None;
        for chunk in tokens.chunks(CHUNK) {
            let mut hidden = look_up(self.source, chunk, chunk.len(), &self.device)?;
            for (block, cache) in &mut self.blocks {
                hidden = block.forward_continued(hidden, &self.context, cache)?;
            }
            self.len += chunk.len();
            let width = hidden.dims()[2];
            last = Some(hidden.narrow(1, chunk.len() - 1, 1).reshape([1, width]));
        }
        let Some(last) = last else {
            let place = "tokens to read".to_owned();
            return Err(ModelError::Length { place, expected: 1, found: 0 });
        };
        let logits = host::into_vec(self.head_rows.logits(&self.head.normalize(&last)));
        if logits.iter().any(|logit| !logit.is_finite()) {
            return Err(ModelError::NonFiniteLogits { tokens: self.len });
        }
        Ok(logits)
    }
}
