//! Causal attention on slices: blocks of queries against the keys they see.

use std::ops::Range;

use gemm::Parallelism;
use pulp::{Arch, NullaryFnOnce, Simd, WithSimd};
use rayon::prelude::*;
use slmc_matmul::memory::{Shared, uninitialized};

use super::attention::AttentionShape;
use super::cache::{CachedHead, KeyValueCache};
use super::exponential::{exp, tanh};
use super::{Documents, Sight, lanes};

/// Queries of one task. Smaller blocks compute fewer scores that the mask throws away, larger ones multiply
/// faster.
pub(super) const QUERIES: usize = 64;

/// Multiplications that a task must have to be worth handing to another thread.
const LEAST_WORK: usize = 64 << 10;

/// As [`super::attention`], on slices.
pub(super) fn attention(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    shape: AttentionShape,
    documents: Option<&Documents>,
) -> Vec<f32> {
    let AttentionShape { seq, heads, key_value_heads, head_dim, .. } = shape;
    let (width, key_width) = (heads * head_dim, key_value_heads * head_dim);
    let batch = if seq == 0 { 0 } else { q.len() / (seq * width) };
    assert_eq!(q.len(), batch * seq * width, "queries");
    assert_eq!((k.len(), v.len()), (batch * seq * key_width, batch * seq * key_width), "keys and values");
    // SAFETY: the tasks below cover every sequence, block and head.
    let mut y = unsafe { uninitialized(q.len()) };
    let (target, arch) = (Shared(y.as_mut_ptr()), Arch::new());
    let group = heads / key_value_heads;
    (0..batch * key_value_heads).into_par_iter().for_each(|task| {
        let (sequence, key_head) = (task / key_value_heads, task % key_value_heads);
        let first = sequence * seq;
        let head_of = |rows: &[f32], out: &mut Vec<f32>| {
            let rows = rows[first * key_width..][..seq * key_width].chunks_exact(key_width);
            rows.for_each(|row| out.extend_from_slice(&row[key_head * head_dim..][..head_dim]));
        };
        let (mut values, mut keys_by_row) = (Vec::new(), Vec::new());
        head_of(v, &mut values);
        head_of(k, &mut keys_by_row);
        // [head_dim, seq]: gemm reads its left operand down the columns, and would turn it for every block.
        let keys_turned = turn(&keys_by_row, head_dim);
        let mut scores = vec![0.0; QUERIES * seq];
        let sight = Sight::of(shape, documents, sequence);
        for head in key_head * group..(key_head + 1) * group {
            // SAFETY: the rows of this sequence and the columns of this head lie within q and y, whose lengths were
            // asserted, and this task alone writes them.
            unsafe {
                let at = first * width + head * head_dim;
                let queries = Queries { from: q.as_ptr().add(at), to: target.get().add(at), first: 0, sight };
                queries.attend(&keys_turned, &values, &mut scores, arch);
            }
        }
    });
    y
}

/// As [`super::attention_continued`], on slices: `q` is `[seq, heads · head_dim]`, the last tokens of the cache.
pub(super) fn attention_continued(q: &[f32], cache: &KeyValueCache, shape: AttentionShape) -> Vec<f32> {
    let AttentionShape { seq, heads, key_value_heads, head_dim, .. } = shape;
    assert_eq!((q.len(), cache.heads().len()), (seq * heads * head_dim, key_value_heads), "queries and keys");
    let (first, group, arch) = (cache.len() - seq, heads / key_value_heads, Arch::new());
    // SAFETY: the tasks below cover every token and head.
    let mut y = unsafe { uninitialized(q.len()) };
    let target = Shared(y.as_mut_ptr());
    let tasks_at_least = LEAST_WORK / (seq * group * cache.len() * head_dim).max(1);
    let tasks = cache.heads().par_iter().enumerate().with_min_len(tasks_at_least.max(1));
    tasks.for_each(|(key_head, cached)| {
        let heads_of_key = key_head * group..(key_head + 1) * group;
        if seq == 1 {
            let part = heads_of_key.start * head_dim..heads_of_key.end * head_dim;
            // SAFETY: this task alone writes this part of y.
            let y = unsafe { std::slice::from_raw_parts_mut(target.get().add(part.start), part.len()) };
            arch.dispatch(OneToken { q: &q[part], y, cached, position: first, shape });
            return;
        }
        let keys_turned = turn(&cached.keys, head_dim);
        let mut scores = vec![0.0; QUERIES * cache.len()];
        let sight = Sight { shape, documents: None };
        for head in heads_of_key {
            // SAFETY: the columns of this head lie within q and y, and this task alone writes them.
            unsafe {
                let at = head * head_dim;
                let queries = Queries { from: q.as_ptr().add(at), to: target.get().add(at), first, sight };
                queries.attend(&keys_turned, &cached.values, &mut scores, arch);
            }
        }
    });
    y
}

/// One head's queries, at positions `first` to `first + seq − 1` of a sequence, and the place of its outputs, both in
/// rows of `heads · head_dim`.
struct Queries<'a> {
    from: *const f32,
    to: *mut f32,
    first: usize,
    sight: Sight<'a>,
}

impl Queries<'_> {
    /// Writes the outputs. `keys_turned` is `[head_dim, keys]`, `values` `[keys, head_dim]`, for the `keys` tokens of the
    /// sequence: `first + seq`. `scores` is room for a block of queries' scores.
    ///
    /// # Safety
    /// The pointers are valid for `seq` rows; nobody else uses the outputs.
    unsafe fn attend(&self, keys_turned: &[f32], values: &[f32], scores: &mut [f32], arch: Arch) {
        let AttentionShape { seq, heads, head_dim, .. } = self.sight.shape;
        let (width, all_keys) = (heads * head_dim, self.first + seq);
        assert_eq!(
            (keys_turned.len(), values.len()),
            (all_keys * head_dim, all_keys * head_dim),
            "keys and values"
        );
        assert!(scores.len() >= QUERIES.min(seq) * all_keys, "room for scores");
        for start in (0..seq).step_by(QUERIES) {
            let rows = start..seq.min(start + QUERIES);
            let queries = self.first + rows.start..self.first + rows.end;
            let keys = self.sight.first_key(queries.start)..queries.end;
            // SAFETY: the caller answers for rows `rows` of this head; `scores` holds the rows of a block.
            unsafe {
                let strides = [(1, keys.len()), (width, 1), (all_keys, 1)];
                let operands = (self.from.add(start * width), keys_turned.as_ptr().add(keys.start));
                multiply([rows.len(), keys.len(), head_dim], scores.as_mut_ptr(), false, operands, strides);
            }
            arch.dispatch(Softmax { scores, queries, keys: keys.clone(), sight: self.sight });
            // SAFETY: as above.
            unsafe {
                let strides = [(1, width), (keys.len(), 1), (head_dim, 1)];
                let operands = (scores.as_ptr(), values.as_ptr().add(keys.start * head_dim));
                multiply(
                    [rows.len(), head_dim, keys.len()],
                    self.to.add(start * width),
                    false,
                    operands,
                    strides,
                );
            }
        }
    }
}

/// One token's query heads of one key head: `q` and `y` are `[group, head_dim]`. Keys and values are read once, in the
/// order they lie.
struct OneToken<'a> {
    q: &'a [f32],
    y: &'a mut [f32],
    cached: &'a CachedHead,
    position: usize,
    shape: AttentionShape,
}

impl WithSimd for OneToken<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { q, y, cached, position, shape } = self;
        let head_dim = shape.head_dim;
        let keys = shape.first_key(position)..position + 1;
        let seen = keys.start * head_dim..keys.end * head_dim;
        let mut scores = vec![0.0; keys.len()];
        for (q, y) in q.chunks_exact(head_dim).zip(y.chunks_exact_mut(head_dim)) {
            for (score, key) in scores.iter_mut().zip(cached.keys[seen.clone()].chunks_exact(head_dim)) {
                *score = lanes::dot(simd, q, key);
            }
            let sight = Sight { shape, documents: None };
            Softmax { scores: &mut scores, queries: position..position + 1, keys: keys.clone(), sight }
                .call();
            y.fill(0.0);
            for (weight, value) in scores.iter().zip(cached.values[seen.clone()].chunks_exact(head_dim)) {
                for (y, value) in y.iter_mut().zip(value) {
                    *y = weight.mul_add(*value, *y);
                }
            }
        }
    }
}

/// `[rows, columns]` to `[columns, rows]`, in tiles that stay in the first-level cache.
pub(super) fn turn(matrix: &[f32], columns: usize) -> Vec<f32> {
    const TILE: usize = 16;
    let rows = matrix.len() / columns;
    let mut turned = vec![0.0; matrix.len()];
    for first_row in (0..rows).step_by(TILE) {
        let last_row = rows.min(first_row + TILE);
        for column in 0..columns {
            let target = &mut turned[column * rows..][first_row..last_row];
            for (target, row) in target.iter_mut().zip(first_row..) {
                *target = matrix[row * columns + column];
            }
        }
    }
    turned
}

/// c = a b, or c += a b, for `[m, n, k]`; of c: (column stride, row stride), of a: (row stride, column stride), of b: (row
/// stride, column stride).
///
/// # Safety
/// The pointers are valid for matrices of these dimensions and strides, c for writing.
pub(super) unsafe fn multiply(
    [m, n, k]: [usize; 3],
    c: *mut f32,
    accumulate: bool,
    (a, b): (*const f32, *const f32),
    [(c_column, c_row), (a_row, a_column), (b_row, b_column)]: [(usize, usize); 3],
) {
    // SAFETY: by the caller.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c,
            c_column as isize,
            c_row as isize,
            accumulate,
            a,
            a_column as isize,
            a_row as isize,
            b,
            b_column as isize,
            b_row as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// Scores to weights, row by row: `scores` is `[queries, keys]`, both given as positions. Keys that a query does not see
/// get weight 0.
pub(super) struct Softmax<'a> {
    pub scores: &'a mut [f32],
    pub queries: Range<usize>,
    pub keys: Range<usize>,
    pub sight: Sight<'a>,
}

/// A type of its own, as the body of a closure need not be compiled for the vector instructions found.
impl NullaryFnOnce for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { scores, queries, keys, sight } = self;
        // Capped scores are scaled already.
        let scale = if sight.shape.softcap.is_some() { 1.0 } else { sight.shape.scale };
        for (row, query) in scores.chunks_exact_mut(keys.len()).zip(queries) {
            let seen = sight.first_key(query) - keys.start..query + 1 - keys.start;
            row[..seen.start].fill(0.0);
            row[seen.end..].fill(0.0);
            let row = &mut row[seen];
            if let Some(cap) = sight.shape.softcap {
                let inverse = sight.shape.scale / cap;
                for score in row.iter_mut() {
                    *score = cap * tanh(*score * inverse);
                }
            }
            let maximum = lanes::maximum(row);
            for score in row.iter_mut() {
                *score = exp((*score - maximum) * scale);
            }
            let inverse = (1.0 / lanes::sum(row)) as f32;
            for score in row.iter_mut() {
                *score *= inverse;
            }
        }
    }
}
