//! Tokens to the residual stream.

use burn::tensor::{Device as BurnDevice, Tensor};
use rayon::prelude::*;

use crate::arch::{Role, TensorId};
use crate::error::ModelError;
use crate::host;
use crate::source::WeightSource;

/// The rows of the embedding for `tokens`, times the family's scale, `[batch, seq]` row-major with `seq` tokens a sequence: gives
/// `[batch, seq, hidden_size]`. Only the rows that occur are read, and their pages let go.
///
/// # Errors
/// A token the vocabulary does not have; tokens that are no whole sequences; whatever the source reports.
pub fn embed(
    source: &dyn WeightSource,
    tokens: &[u32],
    seq: usize,
    device: &BurnDevice,
) -> Result<Tensor<3>, ModelError> {
    let hidden = look_up(source, tokens, seq, device)?;
    source.release(TensorId::global(Role::TokenEmbedding));
    Ok(hidden)
}

/// As [`embed`], for whoever soon reads more of the matrix: its pages stay.
pub(super) fn look_up(
    source: &dyn WeightSource,
    tokens: &[u32],
    seq: usize,
    device: &BurnDevice,
) -> Result<Tensor<3>, ModelError> {
    let (vocab_size, width) = (source.config().vocab_size, source.config().hidden_size);
    if seq == 0 || !tokens.len().is_multiple_of(seq) {
        let place = format!("sequences of {seq} tokens");
        return Err(ModelError::Length {
            place,
            expected: tokens.len().next_multiple_of(seq.max(1)),
            found: tokens.len(),
        });
    }
    if let Some(&token) = tokens.iter().find(|&&token| token as usize >= vocab_size) {
        return Err(ModelError::Token { token, vocab_size });
    }
    let id = TensorId::global(Role::TokenEmbedding);
    let mut distinct = tokens.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let scale = source.config().embedding_scale as f32;
    let mut table = vec![0.0; distinct.len() * width];
    table.par_chunks_exact_mut(width).zip(&distinct).try_for_each(|(row, &token)| {
        let token = token as usize;
        row.copy_from_slice(&source.load_rows(id, token..token + 1)?.values);
        if scale != 1.0 {
            row.iter_mut().for_each(|value| *value *= scale);
        }
        Ok::<(), ModelError>(())
    })?;
    let mut hidden = vec![0.0; tokens.len() * width];
    hidden.par_chunks_exact_mut(width).zip(tokens).for_each(|(row, token)| {
        // Every token is in the table, which was made of them.
        let index = distinct.binary_search(token).unwrap_or_default();
        row.copy_from_slice(&table[index * width..][..width]);
    });
    Ok(host::tensor(hidden, [tokens.len() / seq, seq, width], device))
}
