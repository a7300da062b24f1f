//! Causal attention on slices: blocks of queries against the keys they see.

use gemm::Parallelism;
use pulp::Arch;
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
    let blocks = seq.div_ceil(QUERIES);
    (0..batch * heads).into_par_iter().for_each(|task| {
        let (sequence, head) = (task / heads, task % heads);
        let key_head = head / (heads / key_value_heads);
        let first = sequence * seq;
        let mut scores = Vec::new();
        for block in 0..blocks {
            let queries = block * QUERIES..seq.min((block + 1) * QUERIES);
            let keys = shape.first_key(queries.start)..queries.end;
            scores.resize(QUERIES * seq, 0.0);
            let query_at = (first + queries.start) * width + head * head_dim;
            let key_at = (first + keys.start) * key_width + key_head * head_dim;
            // SAFETY: rows `queries` of this head lie within q and y, rows `keys` within k and v (lengths were
            // asserted); `scores` holds 64 rows of up to `seq`; this task alone writes these elements of y.
            unsafe {
                let strides = [(1, keys.len()), (width, 1), (1, key_width)];
                let operands = (q.as_ptr().add(query_at), k.as_ptr().add(key_at));
                multiply([queries.len(), keys.len(), head_dim], scores.as_mut_ptr(), operands, strides);
                arch.dispatch(|| softmax(&mut scores, queries.clone(), keys.clone(), shape));
                let strides = [(1, width), (keys.len(), 1), (key_width, 1)];
                let operands = (scores.as_ptr(), v.as_ptr().add(key_at));
                multiply(
                    [queries.len(), head_dim, keys.len()],
                    target.get().add(query_at),
                    operands,
                    strides,
                );
            }
        }
    });
    y
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
#[inline(always)]
fn softmax(
    scores: &mut [f32],
    queries: std::ops::Range<usize>,
    keys: std::ops::Range<usize>,
    shape: AttentionShape,
) {
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
