//! A matrix in a slice.

use std::ops::Range;

/// A matrix that lies row by row in a slice, or its transpose.
#[derive(Clone, Copy, Debug)]
pub struct Operand<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// From row to row, and from column to column.
    pub(crate) strides: [usize; 2],
}

impl<'a> Operand<'a> {
    /// `[rows, columns]`, row-major, without gaps.
    ///
    /// # Panics
    /// If there are not as many values.
    pub fn new(values: &'a [f32], [rows, columns]: [usize; 2]) -> Self {
        assert_eq!(values.len(), rows * columns, "values of a matrix [{rows}, {columns}]");
        Self { values, rows, columns, strides: [columns, 1] }
    }

    /// `[rows, columns]`, row-major, whose rows begin `row_stride` apart.
    ///
    /// # Panics
    /// If it does not lie inside the slice.
    pub fn spaced(values: &'a [f32], [rows, columns]: [usize; 2], row_stride: usize) -> Self {
        assert!(columns <= row_stride || rows <= 1, "rows of {columns} values, {row_stride} apart");
        let matrix = Self { values, rows, columns, strides: [row_stride, 1] };
        assert!(matrix.end() <= values.len(), "a matrix [{rows}, {columns}] beyond its slice");
        matrix
    }

    /// Some of the rows.
    ///
    /// # Panics
    /// If there are not as many.
    pub fn rows(self, rows: Range<usize>) -> Self {
        self.transposed().columns(rows).transposed()
    }

    /// Some of the columns.
    ///
    /// # Panics
    /// If there are not as many.
    pub fn columns(self, columns: Range<usize>) -> Self {
        assert!(columns.start <= columns.end && columns.end <= self.columns, "columns of a matrix");
        let first = (columns.start * self.strides[1]).min(self.values.len());
        Self { values: &self.values[first..], columns: columns.len(), ..self }
    }

    /// Rows as columns.
    pub fn transposed(self) -> Self {
        let [row, column] = self.strides;
        Self { rows: self.columns, columns: self.rows, strides: [column, row], ..self }
    }

    /// Whether both are the same values in the same order.
    pub(crate) fn is(&self, other: Self) -> bool {
        let shape = |operand: &Self| (operand.rows, operand.columns, operand.strides);
        std::ptr::eq(self.values.as_ptr(), other.values.as_ptr()) && shape(self) == shape(&other)
    }

    /// One more than the position of its last value.
    pub(crate) fn end(&self) -> usize {
        match self.rows == 0 || self.columns == 0 {
            true => 0,
            false => (self.rows - 1) * self.strides[0] + (self.columns - 1) * self.strides[1] + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_ends_inside_the_whole() {
        let values = [0.0; 12];
        let whole = Operand::new(&values, [3, 4]);
        assert_eq!(whole.end(), 12);
        assert_eq!(whole.rows(1..2).columns(1..3).end(), 2);
        assert_eq!(whole.transposed().rows(3..4).columns(2..3).end(), 1);
        assert_eq!(whole.rows(3..3).end(), 0);
    }

    #[test]
    #[should_panic(expected = "beyond its slice")]
    fn a_matrix_beyond_its_slice_is_refused() {
        Operand::spaced(&[1.0; 6], [3, 2], 3);
    }
}
