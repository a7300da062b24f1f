//! How many tokens go through a model at a time: enough to be fast, few enough for a memory budget.

use std::ops::Range;

use slmc_model::ModelConfig;

use crate::windows::{Window, Windows};

/// Bytes of an f32.
const F32: usize = size_of::<f32>();

/// The batches of an evaluation. It depends on the models, the text and the budget, never on the number of threads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The windows of every forward call, all of one shape.
    chunks: Vec<Range<usize>>,
    /// Chunks that go through a model together; every group reads and decodes the model once.
    chunks_per_group: usize,
    /// Vocabulary entries in one slice of the head.
    pub head_rows: usize,
}

impl Plan {
    /// Chunks of about this many tokens keep the matrix products busy; longer ones only take memory.
    pub const CHUNK_TOKENS: usize = 2048;
    /// Groups of so many tokens cost hundreds of times what reading and decoding the model again does; longer ones only keep
    /// the running figures, and whoever stops the evaluation, waiting.
    const GROUP_TOKENS: usize = 16 << 10;
    /// Slices of the head are multiples of this many rows, a multiple of the matrix kernels' heights.
    pub const HEAD_STEP: usize = 192;
    /// A slice of the head has at most so many bytes of weights, as f32.
    pub const HEAD_BYTES: usize = 32 << 20;

    /// Half the budget is for hidden states, a quarter each for the activations of a chunk and for logits: those of every model, and
    /// `read` that are read from a file.
    pub fn new(configs: &[&ModelConfig], read: usize, windows: &Windows<'_>, budget: usize) -> Self {
        let longest = |of: fn(&Window) -> usize| windows.all().iter().map(of).max().unwrap_or(1).max(1);
        let (len, scored) = (longest(|window| window.len), longest(|window| window.scored.len()));
        let hidden = configs.iter().map(|config| config.hidden_size).max().unwrap_or(1).max(1);

        let inside = configs.iter().map(|config| bytes_inside(config).saturating_mul(len));
        let chunk_bytes = inside.max().unwrap_or(1).max(1);
        let windows_per_chunk =
            (budget / 4 / chunk_bytes).min(Self::CHUNK_TOKENS / len).clamp(1, windows.count());
        let chunks = chunks(windows.all(), windows_per_chunk);

        // One model's hidden states, and of every model what the head needs.
        let group_bytes = (len + configs.len() * scored).saturating_mul(hidden * F32);
        let windows_per_group = (budget / 2 / group_bytes).min(Self::GROUP_TOKENS / len);
        // Whole chunks, and groups of about the same size.
        let chunks_per_group = (windows_per_group / windows_per_chunk).max(1);
        let chunks_per_group = chunks.len().div_ceil(chunks.len().div_ceil(chunks_per_group));

        let logits_bytes = (windows_per_chunk * scored * F32 * (configs.len() + read)).max(1);
        let head_steps = (budget / 4 / logits_bytes).min(Self::HEAD_BYTES / (hidden * F32)) / Self::HEAD_STEP;
        Self { chunks, chunks_per_group, head_rows: head_steps.clamp(1, 32) * Self::HEAD_STEP }
    }

    /// The chunks of every group.
    pub fn groups(&self) -> impl Iterator<Item = &[Range<usize>]> {
        self.chunks.chunks(self.chunks_per_group)
    }
}

/// Up to `size` windows of one shape at a time.
fn chunks(windows: &[Window], size: usize) -> Vec<Range<usize>> {
    let mut chunks: Vec<Range<usize>> = Vec::with_capacity(windows.len().div_ceil(size) + 2);
    for (index, window) in windows.iter().enumerate() {
        match chunks.last_mut() {
            Some(chunk) if chunk.len() < size && window.has_shape_of(&windows[chunk.start]) => chunk.end += 1,
            _ => chunks.push(index..index + 1),
        }
    }
    chunks
}

/// Bytes of a token inside a block: residual, norm, Q, attention's output and their copies; gate, up and their product.
pub(crate) fn bytes_inside(config: &ModelConfig) -> usize {
    let queries = config.num_attention_heads.saturating_mul(config.head_dim);
    let mlp = config.intermediate_size.saturating_mul(3);
    let attention = queries.saturating_add(config.hidden_size).saturating_mul(3);
    mlp.saturating_add(attention).saturating_mul(F32)
}

/// Multiply-adds of one token in one block's linear layers.
pub(crate) fn block_work(config: &ModelConfig) -> f64 {
    let heads = 2 * (config.num_attention_heads + config.num_key_value_heads);
    let width = heads as f64 * config.head_dim as f64 + 3.0 * config.intermediate_size as f64;
    width * config.hidden_size as f64
}

/// Multiply-adds of one scored token in `rows` rows of the head.
pub(crate) fn head_work(config: &ModelConfig, rows: usize) -> f64 {
    config.hidden_size as f64 * rows as f64
}

/// Multiply-adds of the whole evaluation over `vocab_size` entries of the vocabulary, in the units of [`block_work`] and
/// [`head_work`].
pub(crate) fn total_work(configs: &[&ModelConfig], windows: &Windows<'_>, vocab_size: usize) -> f64 {
    let sum = |of: fn(&Window) -> usize| windows.all().iter().map(of).sum::<usize>() as f64;
    let (read, scored) = (sum(|window| window.len), sum(|window| window.scored.len()));
    let of = |config: &&ModelConfig| {
        block_work(config) * config.num_hidden_layers as f64 * read + head_work(config, vocab_size) * scored
    };
    configs.iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_hold_windows_of_one_shape_in_their_order() {
        let window = |len, scored| Window { start: 0, len, scored };
        let mut windows = vec![window(8, 0..7)];
        windows.extend(vec![window(8, 5..7); 5]);
        windows.push(window(6, 3..5));
        assert_eq!(chunks(&windows, 2), [0..1, 1..3, 3..5, 5..6, 6..7]);
        assert_eq!(chunks(&windows, 100), [0..1, 1..6, 6..7]);
    }
}
