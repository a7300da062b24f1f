//! Log-likelihoods of continuations in their contexts, by a model that is streamed block by block.
//!
//! As in `HFLM._loglikelihood_tokens` of lm-evaluation-harness: what does not fit the model's longest sequence is cut off on the
//! left, the last token is predicted and not read. Sequences of about the same length go through a block together, padded on the
//! right, where causal attention never looks. Those that are alike in all that is read (choices of one token) are read once.

mod batches;

use std::ops::ControlFlow;

use slmc_model::host::{self, HostView};
use slmc_model::{
    Block, BurnDevice, Context, Device, Head, ModelError, NoObserver, Tensor, WeightSource, embed,
};
use thiserror::Error;

use crate::accumulate::{Accumulator, NonFiniteLogit};
use batches::{Batches, Chunk};

/// Rows of logits that exist at a time.
const HEAD_TOKENS: usize = 2048;

/// A context and what may follow it, as token ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// What comes before; at least one token.
    pub context: Vec<u32>,
    /// What is scored; at least one token.
    pub continuation: Vec<u32>,
}

/// Log-likelihoods that cannot be had.
#[derive(Debug, Error)]
pub enum LikelihoodError {
    /// Nothing to score, or nothing to score it in.
    #[error("the context or the continuation has no token")]
    Empty {
        /// Index of the pair.
        pair: usize,
    },
    /// A continuation that leaves no room for a context.
    #[error("a continuation of {tokens} tokens, but the model reads at most {longest}")]
    TooLong {
        /// Index of the pair.
        pair: usize,
        /// Tokens of the continuation.
        tokens: usize,
        /// The model's longest sequence.
        longest: usize,
    },
    /// The model predicted NaN or infinity.
    #[error("the model's logits are NaN or infinite (vocabulary entries from {first_entry})")]
    NonFinite {
        /// Index of the pair.
        pair: usize,
        /// First entry of the slice of the vocabulary that it was found in.
        first_entry: usize,
    },
    /// The model cannot be read or run.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl LikelihoodError {
    /// The pair that it is about, where it is about one.
    pub fn pair(&self) -> Option<usize> {
        match self {
            Self::Empty { pair } | Self::TooLong { pair, .. } | Self::NonFinite { pair, .. } => Some(*pair),
            Self::Model(_) => None,
        }
    }
}

/// Σ log p(token | all before it) over the tokens of every continuation, in nats. `memory_budget` is in bytes, as in
/// [`crate::Options`]; `step` hears the share that is done and may stop the work: `None` for the continuations that were not
/// reached then. The result does not depend on the number of threads.
///
/// # Errors
/// See [`LikelihoodError`].
pub fn log_likelihoods(
    source: &dyn WeightSource,
    device: Device,
    pairs: &[Pair],
    memory_budget: usize,
    step: &mut dyn FnMut(f64) -> ControlFlow<()>,
) -> Result<Vec<Option<f64>>, LikelihoodError> {
    let device = device.burn().map_err(ModelError::from)?;
    let config = source.config();
    let batches = Batches::new(pairs, config, memory_budget)?;
    let context = Context::new(config, batches.longest(), &device, source.kv_precision());
    let mut logs = vec![None; pairs.len()];
    let mut done = 0.0;
    let mut step = |work: f64| {
        done += work / batches.work(config);
        step(done.min(1.0))
    };
    for group in batches.groups() {
        let pass = Pass { source, device: &device, context: &context };
        let Some(states) = pass.blocks(group, &mut step)? else { break };
        pass.head(group, states, &mut logs)?;
    }
    Ok(logs)
}

struct Pass<'a> {
    source: &'a dyn WeightSource,
    device: &'a BurnDevice,
    context: &'a Context,
}

impl Pass<'_> {
    /// The states from which the continuations of `group` are predicted, `[scored tokens, hidden_size]`, before the final norm;
    /// `None` if the caller wished to stop.
    fn blocks(
        &self,
        group: &[Chunk],
        step: &mut dyn FnMut(f64) -> ControlFlow<()>,
    ) -> Result<Option<Vec<f32>>, LikelihoodError> {
        let config = self.source.config();
        let mut hidden = Vec::with_capacity(group.len());
        for chunk in group {
            hidden.push(embed(self.source, &chunk.inputs, chunk.length, self.device)?);
        }
        let mut scored = Vec::new();
        for layer in 0..config.num_hidden_layers {
            let block = Block::load(self.source, layer, self.device)?;
            let mut next = Vec::with_capacity(hidden.len());
            for (chunk, hidden) in group.iter().zip(hidden) {
                if layer + 1 == config.num_hidden_layers {
                    self.last_block(&block, chunk, hidden, &mut scored)?;
                } else {
                    next.push(block.forward(hidden, self.context, &mut NoObserver)?);
                }
                if step(chunk.work(config)).is_break() {
                    return Ok(None);
                }
            }
            hidden = next;
        }
        Ok(Some(scored))
    }

    /// The last block: its MLP is needed at the scored positions only.
    fn last_block(
        &self,
        block: &Block,
        chunk: &Chunk,
        hidden: Tensor<3>,
        scored: &mut Vec<f32>,
    ) -> Result<(), LikelihoodError> {
        let hidden = block.attention(hidden, self.context, &mut NoObserver)?;
        let [_, _, width] = hidden.dims();
        let view = HostView::of(&hidden);
        let mut rows = Vec::with_capacity(chunk.rows.len() * width);
        chunk.rows.iter().for_each(|row| rows.extend_from_slice(&view[row.position * width..][..width]));
        let rows = host::tensor(rows, [1, chunk.rows.len(), width], self.device);
        scored.extend_from_slice(&HostView::of(&block.mlp(rows, &mut NoObserver)?));
        Ok(())
    }

    /// Adds the log-probabilities of the scored tokens to their pairs' sums, a slice of the vocabulary at a time.
    fn head(
        &self,
        group: &[Chunk],
        states: Vec<f32>,
        logs: &mut [Option<f64>],
    ) -> Result<(), LikelihoodError> {
        let config = self.source.config();
        let head = Head::load(self.source, self.device)?;
        let rows: Vec<_> = group.iter().flat_map(|chunk| &chunk.rows).collect();
        let width = config.hidden_size;
        let states: Vec<_> = states
            .chunks(HEAD_TOKENS * width)
            .map(|rows| {
                head.normalize(&host::tensor(rows.to_vec(), [rows.len() / width, width], self.device))
            })
            .collect();
        let mut accumulators: Vec<_> = rows
            .chunks(HEAD_TOKENS)
            .map(|rows| Accumulator::single(rows.iter().map(|row| row.target).collect()))
            .collect();
        let slice = batches::head_rows(width);
        for first in (0..config.vocab_size).step_by(slice) {
            let entries = first..(first + slice).min(config.vocab_size);
            let weights = head.load_rows(self.source, entries.clone());
            self.source.release(config.head());
            let weights = weights?;
            for (index, (states, accumulator)) in states.iter().zip(&mut accumulators).enumerate() {
                let added = accumulator.add(entries.len(), None, &HostView::of(&weights.logits(states)));
                added.map_err(|NonFiniteLogit { token, first_entry, .. }| {
                    let pair = rows[index * HEAD_TOKENS + token].pair;
                    LikelihoodError::NonFinite { pair, first_entry }
                })?;
            }
        }
        let nll = accumulators.into_iter().flat_map(|accumulator| accumulator.finish().nll);
        rows.iter().zip(nll).for_each(|(row, nll)| {
            *logs[row.pair].get_or_insert(0.0) -= nll;
        });
        Ok(())
    }
}
