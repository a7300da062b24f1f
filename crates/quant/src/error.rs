//! What can go wrong with matrices and grids.

use slmc_gguf::blocks::BlockError;

/// An error of this crate's numerical parts. None of them knows which tensor it works on: callers add the name.
#[derive(Debug, thiserror::Error)]
pub enum QuantError {
    /// A slice's length does not fit the others.
    #[error("{what} has {found} values, expected {expected}")]
    Length {
        /// The slice.
        what: &'static str,
        /// The length it should have.
        expected: usize,
        /// The length it has.
        found: usize,
    },
    /// A row is no whole number of the grid's blocks.
    #[error("{columns} columns are no multiple of {grid}'s block of {block_len}")]
    Columns {
        /// The grid's name.
        grid: String,
        /// Weights in one of its blocks.
        block_len: usize,
        /// d_in.
        columns: usize,
    },
    /// A value that must be a finite number is none, or one that must be positive is not.
    #[error("{what}[{index}] is {value}")]
    Value {
        /// The slice.
        what: &'static str,
        /// Where in it.
        index: usize,
        /// What stands there.
        value: f32,
    },
    /// A Hessian that cannot be factored.
    #[error("the Hessian of {columns} columns cannot be factored: {reason}")]
    Hessian {
        /// d_in.
        columns: usize,
        /// Why.
        reason: &'static str,
    },
    /// Weights are to stay zero on a grid that has no zero.
    #[error("{grid} cannot hold zeros")]
    NoZero {
        /// The grid's name.
        grid: String,
    },
    /// Encoding or decoding failed.
    #[error(transparent)]
    Block(#[from] BlockError),
}

/// An error unless `values` has `expected` entries.
pub(crate) fn check_length<T>(what: &'static str, values: &[T], expected: usize) -> Result<(), QuantError> {
    if values.len() == expected {
        Ok(())
    } else {
        Err(QuantError::Length { what, expected, found: values.len() })
    }
}

/// Rows in a matrix of `len` values with `columns` columns.
pub(crate) fn count_rows(what: &'static str, len: usize, columns: usize) -> Result<usize, QuantError> {
    if columns == 0 || !len.is_multiple_of(columns) {
        let expected = len.checked_div(columns).map_or(0, |rows| (rows + 1) * columns);
        return Err(QuantError::Length { what, expected, found: len });
    }
    Ok(len / columns)
}
