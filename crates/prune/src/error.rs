//! What can go wrong with matrices and masks.

use slmc_quant::QuantError;

/// An error of this crate. None of them knows which tensor it works on: callers add the name.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
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
    /// Rows are no whole number of groups of M.
    #[error("{columns} columns are no multiple of the pattern's {group}")]
    Pattern {
        /// d_in.
        columns: usize,
        /// M.
        group: usize,
    },
    /// Columns are no whole number of families of groups.
    #[error("{columns} columns are no whole number of families of {family} groups of {width}")]
    Groups {
        /// Columns.
        columns: usize,
        /// Columns of a group.
        width: usize,
        /// Groups of a family.
        family: usize,
    },
    /// So many groups cannot go.
    #[error(
        "{removed} of {groups} groups in {families} families cannot be removed evenly, with one left in each"
    )]
    Removed {
        /// Groups to be removed.
        removed: usize,
        /// Groups there are.
        groups: usize,
        /// Families they make.
        families: usize,
    },
    /// A weight or statistic that is NaN or infinite.
    #[error("{what}[{index}] is {value}")]
    Value {
        /// The slice.
        what: &'static str,
        /// Where in it.
        index: usize,
        /// What stands there.
        value: f32,
    },
    /// A tensor does not suit the plan.
    #[error("{tensor}: {source}; --keep it, or take a share instead of a pattern")]
    Tensor {
        /// Its name in the checkpoint.
        tensor: String,
        /// Why not.
        source: Box<PruneError>,
    },
    /// A pattern matches no tensor that could be pruned.
    #[error("--keep `{pattern}` matches no linear layer")]
    NoMatch {
        /// The pattern.
        pattern: String,
    },
    /// The plan prunes no weight.
    #[error("nothing would be pruned: every linear layer is kept, or the sparsity is 0")]
    Nothing,
    /// More is to be pruned than there is.
    #[error("{total} of {weights} weights cannot be pruned")]
    Budget {
        /// To be pruned.
        total: u64,
        /// There are.
        weights: u64,
    },
    /// The Hessian's algebra failed.
    #[error(transparent)]
    Algebra(#[from] QuantError),
}

/// An error unless `values` makes whole rows of `columns`; the number of rows.
pub(crate) fn count_rows(what: &'static str, values: &[f32], columns: usize) -> Result<usize, PruneError> {
    if columns == 0 || !values.len().is_multiple_of(columns) {
        let expected = values.len().checked_div(columns).map_or(0, |rows| (rows + 1) * columns);
        return Err(PruneError::Length { what, expected, found: values.len() });
    }
    Ok(values.len() / columns)
}

/// An error unless all values are finite.
pub(crate) fn check_finite(what: &'static str, values: &[f32]) -> Result<(), PruneError> {
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(PruneError::Value { what, index, value: values[index] }),
        None => Ok(()),
    }
}
