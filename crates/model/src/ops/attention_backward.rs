//! The backward step of causal attention on slices.
//!
//! The weights are computed again, a block of queries at a time, instead of being kept: memory stays linear in the length of
//! the sequence (Dao et al. 2022, arXiv:2205.14135, appendix B.2). With S = Q Kᵀ/√d, P = softmax(S), Y = P V:
//! dV = Pᵀ dY, dP = dY Vᵀ, dS = P ∘ (dP − rowsum(P ∘ dP)), dQ = dS K/√d, dK = dSᵀ Q/√d. Where scores are capped,
//! S = c tanh(T/c) with T = Q Kᵀ/√d, and dT = dS ∘ (1 − (S/c)²) stands for dS.

use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;
use slmc_matmul::memory::Shared;

use super::attention::AttentionShape;
use super::attention_kernel::{QUERIES, Softmax, multiply, turn};
use super::exponential::tanh;
use super::{Documents, Sight, lanes};

/// Gradients of q, k and v, each of its own shape, from that of the output: shapes as for [`super::attention`].
pub(super) fn attention_backward(
    [q, k, v]: [&[f32]; 3],
    dy: &[f32],
    shape: AttentionShape,
    documents: Option<&Documents>,
) -> [Vec<f32>; 3] {
    let AttentionShape { seq, heads, key_value_heads, head_dim, .. } = shape;
    let (width, key_width) = (heads * head_dim, key_value_heads * head_dim);
    let batch = if seq == 0 { 0 } else { q.len() / (seq * width) };
    assert_eq!((q.len(), dy.len()), (batch * seq * width, q.len()), "queries and outputs");
    assert_eq!((k.len(), v.len()), (batch * seq * key_width, batch * seq * key_width), "keys and values");
    let [mut dq, mut dk, mut dv] = [q, k, v].map(|x| vec![0.0; x.len()]);
    let targets = [&mut dq, &mut dk, &mut dv].map(|target| Shared(target.as_mut_ptr()));
    let (group, arch) = (heads / key_value_heads, Arch::new());
    (0..batch * key_value_heads).into_par_iter().for_each(|task| {
        let (sequence, key_head) = (task / key_value_heads, task % key_value_heads);
        let first = sequence * seq;
        let head_of = |rows: &[f32]| -> Vec<f32> {
            let rows = rows[first * key_width..][..seq * key_width].chunks_exact(key_width);
            rows.flat_map(|row| &row[key_head * head_dim..][..head_dim]).copied().collect()
        };
        let (keys, values) = (head_of(k), head_of(v));
        let head = KeyHead {
            keys_turned: turn(&keys, head_dim),
            values_turned: turn(&values, head_dim),
            keys,
            sight: Sight::of(shape, documents, sequence),
            arch,
        };
        let mut room = Room::new(seq, head_dim, shape.softcap.is_some());
        for query_head in key_head * group..(key_head + 1) * group {
            let at = first * width + query_head * head_dim;
            // SAFETY: the rows of this sequence and the columns of this head lie within q, dy and dq, whose lengths were
            // asserted, and this task alone writes them.
            unsafe {
                head.add_gradients(
                    [q.as_ptr().add(at), dy.as_ptr().add(at)],
                    targets[0].get().add(at),
                    &mut room,
                );
            }
        }
        for (gradient, target) in [(&room.d_keys, targets[1]), (&room.d_values, targets[2])] {
            for (token, row) in gradient.chunks_exact(head_dim).enumerate() {
                let at = (first + token) * key_width + key_head * head_dim;
                // SAFETY: as above, for this key head.
                unsafe { std::slice::from_raw_parts_mut(target.get().add(at), head_dim) }
                    .copy_from_slice(row);
            }
        }
    });
    [dq, dk, dv]
}

/// Keys and values of one head in one sequence: `keys` is `[seq, head_dim]`, the others `[head_dim, seq]`.
struct KeyHead<'a> {
    keys: Vec<f32>,
    keys_turned: Vec<f32>,
    values_turned: Vec<f32>,
    sight: Sight<'a>,
    arch: Arch,
}

/// What a task works in: a block of weights and of their gradients, the derivative of capped scores by uncapped ones where there
/// is a cap, and the sums for one key head, `[seq, head_dim]`.
struct Room {
    weights: Vec<f32>,
    slopes: Vec<f32>,
    d_weights: Vec<f32>,
    d_keys: Vec<f32>,
    d_values: Vec<f32>,
}

impl Room {
    fn new(seq: usize, head_dim: usize, is_capped: bool) -> Self {
        let [weights, d_weights] = [(); 2].map(|()| vec![0.0; QUERIES.min(seq) * seq]);
        let slopes = vec![0.0; if is_capped { weights.len() } else { 0 }];
        let [d_keys, d_values] = [(); 2].map(|()| vec![0.0; seq * head_dim]);
        Self { weights, slopes, d_weights, d_keys, d_values }
    }
}

impl KeyHead<'_> {
    /// Adds one query head's part to the gradients of keys and values in `room`, and writes that of its queries.
    ///
    /// # Safety
    /// The pointers are valid for `seq` rows of `head_dim`, a whole row of heads apart; nobody else uses `dq`.
    unsafe fn add_gradients(&self, [q, dy]: [*const f32; 2], dq: *mut f32, room: &mut Room) {
        let AttentionShape { seq, heads, head_dim, .. } = self.sight.shape;
        let width = heads * head_dim;
        for start in (0..seq).step_by(QUERIES) {
            let queries = start..seq.min(start + QUERIES);
            let keys = self.sight.first_key(queries.start)..queries.end;
            let (rows, columns) = (queries.len(), keys.len());
            let key_rows = keys.start * head_dim;
            // SAFETY: the caller answers for the rows of q, dy and dq; the rest has room for a block of queries and the keys
            // they see, which are in the sequence.
            unsafe {
                let (q, dy, dq) = (q.add(start * width), dy.add(start * width), dq.add(start * width));
                let block = [(1, columns), (width, 1), (seq, 1)];
                let keys_turned = self.keys_turned.as_ptr().add(keys.start);
                multiply(
                    [rows, columns, head_dim],
                    room.weights.as_mut_ptr(),
                    false,
                    (q, keys_turned),
                    block,
                );
                let block_len = rows * columns;
                if let Some(cap) = self.sight.shape.softcap {
                    let (scores, slopes) = (&room.weights[..block_len], &mut room.slopes[..block_len]);
                    let inverse = self.sight.shape.scale / cap;
                    self.arch.dispatch(Slopes { scores, slopes, inverse });
                }
                self.arch.dispatch(Softmax {
                    scores: &mut room.weights,
                    queries: queries.clone(),
                    keys: keys.clone(),
                    sight: self.sight,
                });
                let values_turned = self.values_turned.as_ptr().add(keys.start);
                let d_weights = room.d_weights.as_mut_ptr();
                multiply([rows, columns, head_dim], d_weights, false, (dy, values_turned), block);
                let sums = [(1, head_dim), (1, columns), (width, 1)];
                let d_values = room.d_values.as_mut_ptr().add(key_rows);
                multiply([columns, head_dim, rows], d_values, true, (room.weights.as_ptr(), dy), sums);
                self.arch.dispatch(SoftmaxBackward {
                    weights: &room.weights[..block_len],
                    gradients: &mut room.d_weights[..block_len],
                    columns,
                    scale: self.sight.shape.scale,
                });
                if self.sight.shape.softcap.is_some() {
                    let slopes = &room.slopes[..block_len];
                    room.d_weights[..block_len].iter_mut().zip(slopes).for_each(|(d, slope)| *d *= slope);
                }
                let own = [(1, width), (columns, 1), (head_dim, 1)];
                let d_scores = room.d_weights.as_ptr();
                multiply(
                    [rows, head_dim, columns],
                    dq,
                    false,
                    (d_scores, self.keys.as_ptr().add(key_rows)),
                    own,
                );
                let d_keys = room.d_keys.as_mut_ptr().add(key_rows);
                multiply([columns, head_dim, rows], d_keys, true, (d_scores, q), sums);
            }
        }
    }
}

/// 1 − tanh² of the scores times `inverse`.
struct Slopes<'a> {
    scores: &'a [f32],
    slopes: &'a mut [f32],
    inverse: f32,
}

impl NullaryFnOnce for Slopes<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for (slope, score) in self.slopes.iter_mut().zip(self.scores) {
            let tanh = tanh(score * self.inverse);
            *slope = 1.0 - tanh * tanh;
        }
    }
}

/// Gradients of weights to those of scores, times the scale of the products: both `[queries, keys]`.
struct SoftmaxBackward<'a> {
    weights: &'a [f32],
    gradients: &'a mut [f32],
    columns: usize,
    scale: f32,
}

impl NullaryFnOnce for SoftmaxBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let rows = self.gradients.chunks_exact_mut(self.columns).zip(self.weights.chunks_exact(self.columns));
        for (gradients, weights) in rows {
            let mean = lanes::sum_of_products(gradients, weights) as f32;
            for (gradient, &weight) in gradients.iter_mut().zip(weights) {
                *gradient = weight * (*gradient - mean) * self.scale;
            }
        }
    }
}
