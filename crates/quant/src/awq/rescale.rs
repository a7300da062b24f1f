//! Applying scales to weights.

use rayon::prelude::*;

use crate::error::{check_length, count_rows};
use crate::{Grid, QuantError, rtn};

/// Multiplies column j of `weights` (`[d_out, d_in]`) by `scales[j]` (`[d_in]`): W · diag(s). For consumers.
///
/// # Errors
/// Lengths that do not fit; a scale that is not a positive finite number.
pub fn scale_columns(weights: &mut [f32], scales: &[f32]) -> Result<(), QuantError> {
    count_rows("weights", weights.len(), scales.len())?;
    check_scales(scales)?;
    weights.par_chunks_exact_mut(scales.len()).for_each(|row| {
        for (w, s) in row.iter_mut().zip(scales) {
            *w *= s;
        }
    });
    Ok(())
}

/// Divides row i of `weights` (`[d_out, columns]`) by `scales[i]` (`[d_out]`): diag(1/s) · W. For a producer that is a
/// matrix; its bias, if any, goes through [`divide_vector`].
///
/// # Errors
/// Lengths that do not fit; a scale that is not a positive finite number.
pub fn divide_rows(weights: &mut [f32], columns: usize, scales: &[f32]) -> Result<(), QuantError> {
    let rows = count_rows("weights", weights.len(), columns)?;
    check_length("scales", scales, rows)?;
    check_scales(scales)?;
    weights.par_chunks_exact_mut(columns).zip(scales).for_each(|(row, s)| {
        for w in row {
            *w /= s;
        }
    });
    Ok(())
}

/// Divides a norm's weight or a bias (`[d]`) by `scales` (`[d]`).
///
/// # Errors
/// Different lengths; a scale that is not a positive finite number.
pub fn divide_vector(values: &mut [f32], scales: &[f32]) -> Result<(), QuantError> {
    check_length("scales", scales, values.len())?;
    check_scales(scales)?;
    for (v, s) in values.iter_mut().zip(scales) {
        *v /= s;
    }
    Ok(())
}

/// E\[xⱼ²\] / sⱼ²: second moments (`[d_in]`) of the inputs after the producer was divided by `scales`, which are the
/// importance vector for encoding consumers that were multiplied by them.
///
/// # Errors
/// Different lengths; a scale that is not a positive finite number.
pub fn scaled_second_moments(second_moments: &[f32], scales: &[f32]) -> Result<Vec<f32>, QuantError> {
    check_length("scales", scales, second_moments.len())?;
    check_scales(scales)?;
    Ok(second_moments.iter().zip(scales).map(|(h, s)| h / s / s).collect())
}

/// What `weights` (`[d_out, d_in]`) are as a function of the unscaled input after scaling, rounding to `grid` and scaling
/// back: round(W · diag(s)) · diag(1/s), into `out` of the same shape.
///
/// `second_moments` (`[d_in]`), those of the unscaled input, make the rounding weigh columns by importance as
/// [`scaled_second_moments`] says. With scales of 1 this is [`rtn::round_trip`], bit for bit.
///
/// # Errors
/// Lengths that do not fit; a scale that is not a positive finite number; scaled weights that are not finite.
pub fn round_scaled<G: Grid>(
    grid: G,
    weights: &[f32],
    scales: &[f32],
    second_moments: Option<&[f32]>,
    out: &mut [f32],
) -> Result<(), QuantError> {
    let columns = scales.len();
    count_rows("weights", weights.len(), columns)?;
    check_length("rounded weights", out, weights.len())?;
    check_scales(scales)?;
    let importance = second_moments.map(|h| scaled_second_moments(h, scales)).transpose()?;
    // scaled, rounded and scaled back a stripe at a time, while it is in cache
    let stripe = rtn::rows_per_task(columns) * columns;
    let row_bytes = rtn::row_bytes(grid, columns)?;
    weights.par_chunks(stripe).zip(out.par_chunks_mut(stripe)).try_for_each_init(
        || (Vec::new(), Vec::new()),
        |(scaled, bytes), (rows, out)| {
            scaled.resize(rows.len(), 0.0);
            for (scaled, row) in scaled.chunks_exact_mut(columns).zip(rows.chunks_exact(columns)) {
                for ((scaled, w), s) in scaled.iter_mut().zip(row).zip(scales) {
                    *scaled = w * s;
                }
            }
            bytes.resize(rows.len() / columns * row_bytes, 0);
            grid.encode(scaled, columns, importance.as_deref(), bytes)?;
            grid.decode(bytes, out)?;
            for row in out.chunks_exact_mut(columns) {
                for (w, s) in row.iter_mut().zip(scales) {
                    *w /= s;
                }
            }
            Ok(())
        },
    )
}

fn check_scales(scales: &[f32]) -> Result<(), QuantError> {
    match scales.iter().position(|s| !(s.is_finite() && *s > 0.0)) {
        None => Ok(()),
        Some(index) => Err(QuantError::Value { what: "scales", index, value: scales[index] }),
    }
}
