//! The order of Q and K rows in GGUF files of the llama family.
//!
//! transformers rotates row i of a head together with row i + head_dim/2; ggml's NORM RoPE rotates neighbours.
//! So the converter deals the two halves of every head out like cards: row i of the first half goes to 2i, row i
//! of the second half to 2i + 1. Source: `LlamaModel.permute` in llama.cpp's `conversion/llama.py`.

/// Where GGUF has row `row` of a checkpoint's Q or K, `rows` in `heads` heads of an even number of rows each.
///
/// # Panics
/// If `rows` are not that.
pub fn permuted_row(row: usize, heads: usize, rows: usize) -> usize {
    assert!(heads > 0 && rows.is_multiple_of(2 * heads), "{rows} rows in {heads} heads");
    let head_dim = rows / heads;
    let (head, i) = (row / head_dim, row % head_dim);
    head * head_dim + 2 * (i % (head_dim / 2)) + i / (head_dim / 2)
}

/// Rows as in the checkpoint to rows as in GGUF. `source` and `target` are `[rows, row_len]`; any element type:
/// floats, or the bytes of a row.
///
/// # Panics
/// If the two differ in length or are not `heads` heads of an even number of rows.
pub fn permute_rows<T: Copy>(source: &[T], target: &mut [T], heads: usize, row_len: usize) {
    assert!(source.len() == target.len() && source.len().is_multiple_of(row_len), "rows of {row_len}");
    let rows = source.len() / row_len;
    for (row, values) in source.chunks_exact(row_len).enumerate() {
        target[permuted_row(row, heads, rows) * row_len..][..row_len].copy_from_slice(values);
    }
}

/// Rows as in GGUF to rows as in the checkpoint: undoes [`permute_rows`].
///
/// # Panics
/// As [`permute_rows`].
pub fn unpermute_rows<T: Copy>(source: &[T], target: &mut [T], heads: usize, row_len: usize) {
    assert!(source.len() == target.len() && source.len().is_multiple_of(row_len), "rows of {row_len}");
    let rows = source.len() / row_len;
    for (row, values) in target.chunks_exact_mut(row_len).enumerate() {
        values.copy_from_slice(&source[permuted_row(row, heads, rows) * row_len..][..row_len]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deals_the_halves_of_each_head() {
        let source: Vec<u8> = (0..16).collect(); // 2 heads of 4 rows of 2
        let mut target = [0; 16];
        permute_rows(&source, &mut target, 2, 2);
        assert_eq!(target, [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]);
        let mut back = [0; 16];
        unpermute_rows(&target, &mut back, 2, 2);
        assert_eq!(back[..], source[..]);
    }
}
