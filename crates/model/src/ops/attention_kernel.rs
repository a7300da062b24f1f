//! Causal attention on slices: blocks of queries against the keys they see.

use std::ops::Range;

use gemm::Parallelism;
use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use super::attention::AttentionShape;
use super::exponential::exp;
use super::{Shared, lanes, uninitialized};

/// Queries of one task. Smaller blocks compute fewer scores that the mask throws away, larger ones multiply
/// faster.
const QUERIES: usize = 64;

/// As [`super::attention`], on slices.
pub(super) fn attention(q: &[f32], k: &[f32], v: &[f32], shape: AttentionShape) -> Vec<f32> {
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
        for head in key_head * group..(key_head + 1) * group {
            for start in (0..seq).step_by(QUERIES) {
                let queries = start..seq.min(start + QUERIES);
                let keys = shape.first_key(queries.start)..queries.end;
                let query_at = (first + queries.start) * width + head * head_dim;
                // SAFETY: rows `queries` of this head lie within q and y, whose lengths were asserted; `scores`
                // holds 64 rows of up to `seq`; this task alone writes these elements of y.
                unsafe {
                    let strides = [(1, keys.len()), (width, 1), (seq, 1)];
                    let operands = (q.as_ptr().add(query_at), keys_turned.as_ptr().add(keys.start));
                    multiply([queries.len(), keys.len(), head_dim], scores.as_mut_ptr(), operands, strides);
                    let (queries, keys) = (queries.clone(), keys.clone());
                    arch.dispatch(Softmax { scores: &mut scores, queries, keys, shape });
                }
                // SAFETY: as above.
                unsafe {
                    let strides = [(1, width), (keys.len(), 1), (head_dim, 1)];
                    let operands = (scores.as_ptr(), values.as_ptr().add(keys.start * head_dim));
                    let y = target.get().add(query_at);
                    multiply([queries.len(), head_dim, keys.len()], y, operands, strides);
                }
            }
        }
    });
    y
}

/// `[rows, columns]` to `[columns, rows]`, in tiles that stay in the first-level cache.
fn turn(matrix: &[f32], columns: usize) -> Vec<f32> {
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

/// c = a b for `[m, n, k]`; of c: (column stride, row stride), of a: (row stride, column stride), of b: (row
/// stride, column stride).
///
/// # Safety
/// The pointers are valid for matrices of these dimensions and strides, c for writing.
unsafe fn multiply(
    [m, n, k]: [usize; 3],
    c: *mut f32,
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
            false,
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

/// Scores to weights, row by row: `scores` is `[queries, keys]`. Keys that a query does not see get weight 0.
struct Softmax<'a> {
    scores: &'a mut [f32],
    queries: Range<usize>,
    keys: Range<usize>,
    shape: AttentionShape,
}

/// A type of its own, as the body of a closure need not be compiled for the vector instructions found.
impl NullaryFnOnce for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { scores, queries, keys, shape } = self;
        let scale = shape.scale();
        for (row, query) in scores.chunks_exact_mut(keys.len()).zip(queries) {
            let seen = shape.first_key(query) - keys.start..query + 1 - keys.start;
            row[..seen.start].fill(0.0);
            row[seen.end..].fill(0.0);
            let row = &mut row[seen];
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
