//! Keys and values of the tokens that a sequence has so far, for the attention of one block.

use burn::tensor::{Device as BurnDevice, Tensor};

use crate::host::{self, HostView};

/// The keys (after rotation) and values of a sequence's tokens, in the layout its device reads fastest, in f32.
#[derive(Clone, Debug)]
pub struct KeyValueCache {
    head_dim: usize,
    len: usize,
    storage: Storage,
}

#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // there are few caches, each of many numbers
enum Storage {
    /// On the cpu device, a head by itself: a query reads one head's keys and values from end to end.
    Heads(Vec<CachedHead>),
    /// Elsewhere, `[len, key_value_heads · head_dim]`; none before the first token.
    Tensors(Option<(Tensor<2>, Tensor<2>)>),
}

/// One head's keys and values, `[len, head_dim]` each.
#[derive(Clone, Debug, Default)]
pub(super) struct CachedHead {
    pub keys: Vec<f32>,
    pub values: Vec<f32>,
}

impl KeyValueCache {
    /// A cache without tokens.
    pub fn new(key_value_heads: usize, head_dim: usize, device: &BurnDevice) -> Self {
        let storage = if host::is_cpu_without_gradients(device) {
            Storage::Heads(vec![CachedHead::default(); key_value_heads])
        } else {
            Storage::Tensors(None)
        };
        Self { head_dim, len: 0, storage }
    }

    /// Tokens in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes in the next tokens' keys and values, `[tokens, key_value_heads · head_dim]` each.
    pub fn append(&mut self, k: Tensor<2>, v: Tensor<2>) {
        let [tokens, width] = k.dims();
        match &mut self.storage {
            Storage::Heads(heads) => {
                let (k, v) = (HostView::of(&k), HostView::of(&v));
                assert_eq!((width, k.len()), (heads.len() * self.head_dim, v.len()), "keys and values");
                for (head, cached) in heads.iter_mut().enumerate() {
                    let part = head * self.head_dim..(head + 1) * self.head_dim;
                    for (k, v) in k.chunks_exact(width).zip(v.chunks_exact(width)) {
                        cached.keys.extend_from_slice(&k[part.clone()]);
                        cached.values.extend_from_slice(&v[part.clone()]);
                    }
                }
            }
            Storage::Tensors(held) => {
                *held = Some(match held.take() {
                    None => (k, v),
                    Some((keys, values)) => (Tensor::cat(vec![keys, k], 0), Tensor::cat(vec![values, v], 0)),
                });
            }
        }
        self.len += tokens;
    }

    /// Forgets all tokens but the first `len`.
    pub fn truncate(&mut self, len: usize) {
        if len >= self.len {
            return;
        }
        self.len = len;
        match &mut self.storage {
            Storage::Heads(heads) => {
                for head in heads {
                    head.keys.truncate(len * self.head_dim);
                    head.values.truncate(len * self.head_dim);
                }
            }
            Storage::Tensors(held) if len == 0 => *held = None,
            Storage::Tensors(held) => {
                *held = held.take().map(|(keys, values)| (keys.narrow(0, 0, len), values.narrow(0, 0, len)));
            }
        }
    }

    /// Keys and values as tensors `[len, key_value_heads · head_dim]`, where they are kept so: off the cpu device.
    pub(super) fn tensors(&self) -> Option<(Tensor<2>, Tensor<2>)> {
        match &self.storage {
            Storage::Heads(_) => None,
            Storage::Tensors(held) => held.clone(),
        }
    }

    /// The heads, on the cpu device; none elsewhere.
    pub(super) fn heads(&self) -> &[CachedHead] {
        match &self.storage {
            Storage::Heads(heads) => heads,
            Storage::Tensors(_) => &[],
        }
    }
}
