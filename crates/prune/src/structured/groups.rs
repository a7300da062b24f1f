//! Columns that can only go together, and how many of them may.

use std::ops::Range;

use crate::PruneError;

/// A matrix's columns in equal groups of neighbours, those in equal families of neighbours. A family that loses a group loses as many
/// as every other one: query heads share their key and value head with as many others as before, whichever of them go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups {
    columns: usize,
    width: usize,
    family: usize,
}

impl Groups {
    /// `columns` in groups of `width`, `family` of them in a family. A family of all groups is no restriction.
    ///
    /// # Errors
    /// No whole number of groups or families.
    pub fn new(columns: usize, width: usize, family: usize) -> Result<Self, PruneError> {
        if width == 0 || family == 0 || columns == 0 || !columns.is_multiple_of(width * family) {
            return Err(PruneError::Groups { columns, width, family });
        }
        Ok(Self { columns, width, family })
    }

    /// Columns one by one.
    ///
    /// # Errors
    /// There are none.
    pub fn single(columns: usize) -> Result<Self, PruneError> {
        Self::new(columns, 1, columns)
    }

    /// Number of columns.
    pub const fn columns(&self) -> usize {
        self.columns
    }

    /// Columns of a group.
    pub const fn width(&self) -> usize {
        self.width
    }

    /// Number of groups.
    pub const fn count(&self) -> usize {
        self.columns / self.width
    }

    /// Number of families.
    pub const fn families(&self) -> usize {
        self.count() / self.family
    }

    /// Groups of a family.
    pub const fn family(&self) -> usize {
        self.family
    }

    /// The family of a group.
    pub const fn family_of(&self, group: usize) -> usize {
        group / self.family
    }

    /// The columns of a group.
    pub const fn range(&self, group: usize) -> Range<usize> {
        group * self.width..(group + 1) * self.width
    }

    /// The columns of `groups`, in order.
    pub fn columns_of(&self, groups: &[usize]) -> Vec<usize> {
        groups.iter().flat_map(|group| self.range(*group)).collect()
    }

    /// An error unless each family can lose as many as the others and keeps at least one group.
    pub(super) fn check_removed(&self, removed: usize) -> Result<(), PruneError> {
        let families = self.families();
        if !removed.is_multiple_of(families) || removed / families >= self.family {
            return Err(PruneError::Removed { removed, groups: self.count(), families });
        }
        Ok(())
    }
}
