//! What the columns that stay become: least squares for the matrix without the others.
//!
//! With K the columns that stay, tr((T − V) H (T − V)ᵀ) over matrices V that are zero outside K is least at
//!
//!   V_K = (T H)_K H_KK⁻¹ = T_K + T_R H_RK H_KK⁻¹,  R the columns that go.

use rayon::prelude::*;
use slmc_matmul::{Onto, Operand, multiply};
use slmc_quant::gptq::{FeedbackFactor, aim_at_outputs};

use crate::PruneError;
use crate::error::count_rows;

/// Rows that one task multiplies.
const ROWS: usize = 64;

/// Makes `targets` (`[n, columns]`) zero in the columns that are not in `kept`, and solves for those that are, under the factor's
/// damped Hessian. `kept` is in ascending order.
///
/// # Errors
/// Lengths that do not fit; values that are not finite; no column kept.
pub fn solve(targets: &mut [f32], kept: &[usize], factor: &FeedbackFactor) -> Result<(), PruneError> {
    let columns = factor.columns();
    count_rows("targets", targets, columns)?;
    let removed = others(kept, columns);
    if kept.is_empty() {
        return Err(PruneError::Nothing);
    }
    if removed.is_empty() {
        return Ok(());
    }
    let (h_kept, h_removed) =
        (rows_of(factor.hessian(), columns, kept), rows_of(factor.hessian(), columns, &removed));
    let h_kept = columns_of(&h_kept, columns, kept);
    let h_removed = columns_of(&h_removed, columns, kept);
    let inner = FeedbackFactor::new(h_kept, kept.len(), 0.0)?;
    let (mut staying, leaving) = (columns_of(targets, columns, kept), columns_of(targets, columns, &removed));
    let mut lost = vec![0.0; staying.len()];
    let (r, k) = (removed.len(), kept.len());
    lost.par_chunks_mut(ROWS * k).zip(leaving.par_chunks(ROWS * r)).for_each(|(lost, leaving)| {
        let leaving = Operand::spaced(leaving, [leaving.len() / r, r], r);
        multiply(lost, k, Onto::Zero, 1.0, leaving, Operand::spaced(&h_removed, [r, k], k));
    });
    aim_at_outputs(&mut staying, lost, &inner)?;
    targets.par_chunks_mut(columns).zip(staying.par_chunks(k)).for_each(|(row, staying)| {
        row.fill(0.0);
        kept.iter().zip(staying).for_each(|(column, value)| row[*column] = *value);
    });
    Ok(())
}

/// The indices below `count` that are not among `some`, which ascend.
pub fn others(some: &[usize], count: usize) -> Vec<usize> {
    let mut some = some.iter().peekable();
    (0..count).filter(|index| some.next_if(|next| *next == index).is_none()).collect()
}

/// Some rows of a matrix of `columns` columns.
pub fn rows_of(matrix: &[f32], columns: usize, rows: &[usize]) -> Vec<f32> {
    rows.iter().flat_map(|row| &matrix[row * columns..][..columns]).copied().collect()
}

/// Some columns of a matrix of `columns` columns.
pub fn columns_of(matrix: &[f32], columns: usize, some: &[usize]) -> Vec<f32> {
    matrix.chunks_exact(columns).flat_map(|row| some.iter().map(|column| row[*column])).collect()
}
