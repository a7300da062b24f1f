//! Round to nearest: fit each block's scales to its weights, round, pack. Parallel over rows; every row is encoded by
//! itself, so the bytes do not depend on the number of threads.

use rayon::prelude::*;
use slmc_gguf::blocks::GramBlocks;

use crate::error::{check_length, count_rows};
use crate::{Grid, QuantError};

/// Weights that one task encodes: small enough to balance threads, large enough to hide the cost of a task.
const TASK_WEIGHTS: usize = 16 * 1024;

pub(crate) fn rows_per_task(columns: usize) -> usize {
    (TASK_WEIGHTS / columns.max(1)).max(1)
}

pub(crate) fn row_bytes<G: Grid>(grid: G, columns: usize) -> Result<usize, QuantError> {
    grid.row_bytes(columns).filter(|&bytes| bytes > 0).ok_or_else(|| QuantError::Columns {
        grid: grid.name(),
        block_len: grid.block_len(),
        columns,
    })
}

/// Encodes `rows` (`[n, columns]`) into `out`, n times the bytes of a row.
///
/// `importance` (`[columns]`) weighs each column's squared error, see [`Grid::encode`].
///
/// # Errors
/// Lengths that do not fit; weights that are not finite.
pub fn quantize_rows<G: Grid>(
    grid: G,
    rows: &[f32],
    columns: usize,
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<(), QuantError> {
    let count = count_rows("rows", rows.len(), columns)?;
    let row_bytes = row_bytes(grid, columns)?;
    check_length("encoded rows", out, count * row_bytes)?;
    let step = rows_per_task(columns);
    rows.par_chunks(step * columns)
        .zip(out.par_chunks_mut(step * row_bytes))
        .try_for_each(|(rows, out)| grid.encode(rows, columns, importance, out))
}

/// Chooses the scales of `encoded`, which [`quantize_rows`] made of `rows` (`[n, columns]`), again: see [`Grid::refine`].
///
/// # Errors
/// Lengths that do not fit, products of other columns, weights that are not finite.
pub fn refine_rows<G: Grid>(
    grid: G,
    rows: &[f32],
    columns: usize,
    gram: &GramBlocks,
    encoded: &mut [u8],
) -> Result<(), QuantError> {
    let count = count_rows("rows", rows.len(), columns)?;
    let row_bytes = row_bytes(grid, columns)?;
    check_length("encoded rows", encoded, count * row_bytes)?;
    let step = rows_per_task(columns);
    rows.par_chunks(step * columns)
        .zip(encoded.par_chunks_mut(step * row_bytes))
        .try_for_each(|(rows, encoded)| grid.refine(rows, columns, gram, encoded))
}

/// Decodes n rows of `columns` weights into `out` (`[n, columns]`).
///
/// # Errors
/// Lengths that do not fit.
pub fn dequantize_rows<G: Grid>(
    grid: G,
    bytes: &[u8],
    columns: usize,
    out: &mut [f32],
) -> Result<(), QuantError> {
    let count = count_rows("decoded rows", out.len(), columns)?;
    let row_bytes = row_bytes(grid, columns)?;
    check_length("encoded rows", bytes, count * row_bytes)?;
    let step = rows_per_task(columns);
    bytes
        .par_chunks(step * row_bytes)
        .zip(out.par_chunks_mut(step * columns))
        .try_for_each(|(bytes, out)| grid.decode(bytes, out))
}

/// What `rows` (`[n, columns]`) read as after rounding: encode, then decode, into `out` of the same shape.
///
/// # Errors
/// Those of [`quantize_rows`].
pub fn round_trip<G: Grid>(
    grid: G,
    rows: &[f32],
    columns: usize,
    importance: Option<&[f32]>,
    out: &mut [f32],
) -> Result<(), QuantError> {
    count_rows("rows", rows.len(), columns)?;
    check_length("rounded rows", out, rows.len())?;
    let row_bytes = row_bytes(grid, columns)?;
    let step = rows_per_task(columns);
    rows.par_chunks(step * columns).zip(out.par_chunks_mut(step * columns)).try_for_each_init(
        Vec::new,
        |bytes, (rows, out)| {
            bytes.resize(rows.len() / columns * row_bytes, 0);
            grid.encode(rows, columns, importance, bytes)?;
            grid.decode(bytes, out)
        },
    )
}
