//! Causal attention with grouped heads and an optional window.

use burn::tensor::{Bool, Device as BurnDevice, Tensor, activation};

use super::attention_kernel;
use crate::host::{self, HostView};

/// The dimensions of an attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

impl AttentionShape {
    /// 1/√head_dim.
    pub(super) fn scale(&self) -> f32 {
        (1.0 / (self.head_dim as f64).sqrt()) as f32
    }

    /// The first key that the query at `position` sees.
    pub(super) fn first_key(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }
}

/// softmax(Q Kᵀ / √head_dim) V, head by head, each query seeing itself and what came before.
///
/// `q` is `[batch · seq, heads · head_dim]`, `k` and `v` `[batch · seq, key_value_heads · head_dim]`; gives the
/// shape of `q`.
pub fn attention(q: &Tensor<2>, k: &Tensor<2>, v: &Tensor<2>, shape: AttentionShape) -> Tensor<2> {
    let device = q.device();
    if host::is_cpu(&device) {
        let y = attention_kernel::attention(&HostView::of(q), &HostView::of(k), &HostView::of(v), shape);
        return host::tensor(y, q.dims(), &device);
    }
    let AttentionShape { seq, heads, key_value_heads, head_dim, .. } = shape;
    let [tokens, width] = q.dims();
    let batch = tokens / seq;
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
    let split = |t: &Tensor<2>| t.clone().reshape([batch, seq, key_value_heads, head_dim]).swap_dims(1, 2);
    let (k, v) = (split(k), split(v));
    let scores = q.matmul(k.transpose()) * shape.scale();
    let scores = scores.reshape([batch * key_value_heads, groups, seq, seq]);
    let masked = scores.mask_fill(hidden_keys(shape, &device).reshape([1, 1, seq, seq]), f32::NEG_INFINITY);
    let weights = activation::softmax(masked, 3).reshape([batch, key_value_heads, groups * seq, seq]);
    weights
        .matmul(v)
        .reshape([batch * key_value_heads, groups, seq, head_dim])
        .swap_dims(1, 2)
        .reshape([batch, key_value_heads, seq, groups * head_dim])
        .swap_dims(1, 2)
        .reshape([tokens, width])
}

/// True where a query (row) does not see a key (column).
fn hidden_keys(shape: AttentionShape, device: &BurnDevice) -> Tensor<2, Bool> {
    let seq = shape.seq;
    let hidden: Vec<bool> = (0..seq)
        .flat_map(|query| (0..seq).map(move |key| key > query || key < shape.first_key(query)))
        .collect();
    Tensor::from_data(burn::tensor::TensorData::new(hidden, [seq, seq]), device)
}
