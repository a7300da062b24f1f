//! Causal attention with grouped heads and an optional window.

use burn::tensor::{Bool, Device as BurnDevice, Tensor, activation};

use super::gradient::{record, variable};
use super::{KeyValueCache, attention_backward, attention_kernel};
use crate::host::{self, HostView};

/// The dimensions of an attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionShape {
    /// Tokens of a sequence.
    pub seq: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; query head h reads from h / (heads / key_value_heads).
    pub key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// How many tokens back (itself included) a token sees; `None` for all.
    pub window: Option<usize>,
    /// Factor of the scores: 1/√head_dim in most families.
    pub scale: f32,
    /// What scores stay within, by c · tanh(x / c) (Gemma team 2024, arXiv:2408.00118, section 2).
    pub softcap: Option<f32>,
}

impl AttentionShape {
    /// The first key that the query at `position` sees.
    pub(super) fn first_key(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }
}

/// softmax(scale · Q Kᵀ) V, head by head, the scores capped if there is a cap, each query seeing itself and what came before.
///
/// `q` is `[batch · seq, heads · head_dim]`, `k` and `v` `[batch · seq, key_value_heads · head_dim]`; gives the
/// shape of `q`.
pub fn attention(q: &Tensor<2>, k: &Tensor<2>, v: &Tensor<2>, shape: AttentionShape) -> Tensor<2> {
    let device = q.device();
    if host::is_cpu(&device) {
        let (dims, inputs) = (q.dims(), [q, k, v]);
        let [q, k, v] = inputs.map(HostView::of);
        let y = attention_kernel::attention(&q, &k, &v, shape);
        if !device.is_autodiff() {
            return host::tensor(y, dims, &device);
        }
        return record(inputs.map(variable), y, dims, move |dy, _| {
            attention_backward::attention_backward([&q, &k, &v], dy, shape).map(Some)
        });
    }
    attend(q, k, v, shape)
}

/// As [`attention`], for the next tokens of one sequence: `q` is `[seq, heads · head_dim]`, and the cache holds the keys
/// and values of these tokens and of all before them. Gives the shape of `q`.
///
/// # Panics
/// If the cache holds fewer than `seq` tokens.
pub fn attention_continued(q: &Tensor<2>, cache: &KeyValueCache, shape: AttentionShape) -> Tensor<2> {
    assert!(cache.len() >= shape.seq && q.dims()[0] == shape.seq, "tokens of a sequence and their keys");
    match cache.tensors() {
        Some((k, v)) => attend(q, &k, &v, shape),
        None => {
            let y = attention_kernel::attention_continued(&HostView::of(q), cache, shape);
            host::tensor(y, q.dims(), &q.device())
        }
    }
}

/// Attention on burn tensors. The keys of a sequence may be more than its queries, which are then its last tokens.
fn attend(q: &Tensor<2>, k: &Tensor<2>, v: &Tensor<2>, shape: AttentionShape) -> Tensor<2> {
    let AttentionShape { seq, heads, key_value_heads, head_dim, .. } = shape;
    let [tokens, width] = q.dims();
    let batch = tokens / seq;
    let (keys, device) = (k.dims()[0] / batch, q.device());
    let groups = heads / key_value_heads;
    // The query heads of one key head become further rows of it: [batch, kv heads, group · seq, head_dim].
    let grouped = [batch, key_value_heads, groups * seq, head_dim];
    let q = q
        .clone()
        .reshape([batch, seq, key_value_heads, groups * head_dim])
        .swap_dims(1, 2)
        .reshape([batch * key_value_heads, seq, groups, head_dim])
        .swap_dims(1, 2)
        .reshape(grouped);
    let split = |t: &Tensor<2>| t.clone().reshape([batch, keys, key_value_heads, head_dim]).swap_dims(1, 2);
    let (k, v) = (split(k), split(v));
    let scores = q.matmul(k.transpose()) * shape.scale;
    let scores = match shape.softcap {
        Some(cap) => (scores / cap).tanh() * cap,
        None => scores,
    };
    let scores = scores.reshape([batch * key_value_heads, groups, seq, keys]);
    let hidden = hidden_keys(shape, keys, &device).reshape([1, 1, seq, keys]);
    let masked = scores.mask_fill(hidden, f32::NEG_INFINITY);
    let weights = activation::softmax(masked, 3).reshape([batch, key_value_heads, groups * seq, keys]);
    weights
        .matmul(v)
        .reshape([batch * key_value_heads, groups, seq, head_dim])
        .swap_dims(1, 2)
        .reshape([batch, key_value_heads, seq, groups * head_dim])
        .swap_dims(1, 2)
        .reshape([tokens, width])
}

/// True where a query (row) does not see a key (column). The queries are the last tokens of those the keys are of.
fn hidden_keys(shape: AttentionShape, keys: usize, device: &BurnDevice) -> Tensor<2, Bool> {
    let hidden: Vec<bool> = (keys - shape.seq..keys)
        .flat_map(|query| (0..keys).map(move |key| key > query || key < shape.first_key(query)))
        .collect();
    Tensor::from_data(burn::tensor::TensorData::new(hidden, [shape.seq, keys]), device)
}
