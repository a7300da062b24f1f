//! What a weight is worth by itself.

use crate::PruneError;
use crate::error::count_rows;

/// |w|, of every weight.
pub fn magnitude(weights: &[f32]) -> Vec<f32> {
    weights.iter().map(|w| w.abs()).collect()
}

/// |w|·‖x‖₂ of every weight (`[n, columns]`), where `second_moments` (`[columns]`) are means or sums of x² over the same
/// tokens: a factor common to all columns changes no order.
///
/// Source: Sun et al., "A Simple and Effective Pruning Approach for Large Language Models", arXiv 2306.11695, equation 1.
///
/// # Errors
/// Lengths that do not fit.
pub fn wanda(weights: &[f32], second_moments: &[f32]) -> Result<Vec<f32>, PruneError> {
    count_rows("weights", weights, second_moments.len())?;
    let norms: Vec<f32> = second_moments.iter().map(|x| x.max(0.0).sqrt()).collect();
    let rows = weights.chunks_exact(norms.len());
    Ok(rows.flat_map(|row| row.iter().zip(&norms).map(|(w, norm)| w.abs() * norm)).collect())
}
