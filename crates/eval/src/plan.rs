//! How many tokens go through a model at a time: enough to be fast, few enough for a memory budget.

use slmc_model::ModelConfig;

use crate::windows::Windows;

/// Bytes of an f32.
const F32: usize = size_of::<f32>();

/// The batches of an evaluation. It depends on the models, the text and the budget, never on the number of threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Windows that go through a model together; every group reads and decodes the model once.
    pub windows_per_group: usize,
    /// Windows in one forward call.
    pub windows_per_chunk: usize,
    /// Vocabulary entries in one slice of the head.
    pub head_rows: usize,
}

impl Plan {
    /// Chunks of about this many tokens keep the matrix products busy; longer ones only take memory.
    pub const CHUNK_TOKENS: usize = 2048;
    /// Slices of the head are multiples of this many rows, a multiple of the matrix kernels' heights.
    pub const HEAD_STEP: usize = 192;
    /// A slice of the head has at most so many bytes of weights, as f32.
    pub const HEAD_BYTES: usize = 32 << 20;

    /// Half the budget is for hidden states, a quarter each for the activations of a chunk and for logits.
    pub fn new(configs: &[&ModelConfig], windows: &Windows<'_>, budget: usize) -> Self {
        let n_ctx = windows.n_ctx();
        let scored = windows.scored().len();
        let hidden = configs.iter().map(|config| config.hidden_size).max().unwrap_or(1).max(1);

        let inside = configs.iter().map(|config| bytes_inside(config).saturating_mul(n_ctx));
        let chunk_bytes = inside.max().unwrap_or(1).max(1);
        let windows_per_chunk =
            (budget / 4 / chunk_bytes).min(Self::CHUNK_TOKENS / n_ctx).clamp(1, windows.count());

        // One model's hidden states, and of every model what the head needs.
        let group_bytes = (n_ctx + configs.len() * scored).saturating_mul(hidden * F32);
        let windows_per_group = (budget / 2 / group_bytes).clamp(1, windows.count());
        // Whole chunks, and groups of about the same size.
        let chunks = windows.count().div_ceil(windows_per_chunk);
        let chunks_per_group = (windows_per_group / windows_per_chunk).max(1);
        let chunks_per_group = chunks.div_ceil(chunks.div_ceil(chunks_per_group));

        let logits_bytes = (windows_per_chunk * scored * F32 * configs.len()).max(1);
        let head_steps = (budget / 4 / logits_bytes).min(Self::HEAD_BYTES / (hidden * F32)) / Self::HEAD_STEP;
        Self {
            windows_per_group: chunks_per_group * windows_per_chunk,
            windows_per_chunk,
            head_rows: head_steps.clamp(1, 32) * Self::HEAD_STEP,
        }
    }
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

/// Multiply-adds of the whole evaluation, in the units of [`block_work`] and [`head_work`].
pub(crate) fn total_work(configs: &[&ModelConfig], windows: &Windows<'_>) -> f64 {
    let read = (windows.count() * windows.n_ctx()) as f64;
    let scored = (windows.count() * windows.scored().len()) as f64;
    let of = |config: &&ModelConfig| {
        block_work(config) * config.num_hidden_layers as f64 * read
            + head_work(config, config.vocab_size) * scored
    };
    configs.iter().map(of).sum()
}
