//! The one matrix product of this crate and of pruning.

/// A matrix inside a slice.
#[derive(Clone, Copy)]
pub struct View<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> View<'a> {
    /// `[rows, columns]`, row-major, whose rows begin `row_stride` apart.
    pub fn new(values: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        Self { values, rows, columns, row_stride, column_stride: 1 }
    }

    /// Rows as columns.
    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// One more than the position of its last value.
    fn end(&self) -> usize {
        (self.rows - 1) * self.row_stride + (self.columns - 1) * self.column_stride + 1
    }
}

/// What the product is added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Onto {
    /// Nothing: `out` is overwritten.
    Zero,
    /// What `out` holds.
    Itself,
}

/// out = \[out\] + factor · A B on the calling thread; `out` is row-major with rows `row_stride` apart.
///
/// # Panics
/// If the inner dimensions differ, or a matrix does not lie inside its slice.
pub fn product(out: &mut [f32], row_stride: usize, onto: Onto, factor: f32, a: View<'_>, b: View<'_>) {
    assert_eq!(a.columns, b.rows, "inner dimensions");
    let (m, n, k) = (a.rows, b.columns, a.columns);
    if m == 0 || n == 0 || k == 0 {
        assert!(onto == Onto::Itself || m == 0 || n == 0, "an empty sum onto nothing");
        return;
    }
    assert!(a.end() <= a.values.len() && b.end() <= b.values.len());
    assert!(n <= row_stride && (m - 1) * row_stride + n <= out.len());
    // SAFETY: every element addressed by these dimensions and strides lies inside its slice by the assertions, and `out`
    // is borrowed alone.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            row_stride as isize,
            onto == Onto::Itself,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            if onto == Onto::Itself { 1.0 } else { 0.0 },
            factor,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_three_loops() {
        let (m, n, k) = (5, 7, 19);
        let a: Vec<f32> = (0..m * k).map(|i| (i * 37 % 23) as f32 - 11.0).collect();
        let b: Vec<f32> = (0..n * k).map(|i| (i * 29 % 17) as f32 - 8.0).collect();
        let view = |values, rows| View::new(values, rows, k, k);
        let mut out = vec![f32::NAN; m * n];
        product(&mut out, n, Onto::Zero, 1.0, view(&a, m), view(&b, n).transposed());
        let mut wide = vec![1.0; m * (n + 2)];
        product(&mut wide, n + 2, Onto::Itself, -2.0, view(&a, m), view(&b, n).transposed());
        for i in 0..m {
            for j in 0..n {
                let plain: f32 = (0..k).map(|l| a[i * k + l] * b[j * k + l]).sum();
                assert_eq!(out[i * n + j], plain);
                assert_eq!(wide[i * (n + 2) + j], 1.0 - 2.0 * plain);
            }
            assert_eq!(wide[i * (n + 2) + n..][..2], [1.0; 2]);
        }
    }

    #[test]
    #[should_panic(expected = "a.end()")]
    fn a_matrix_beyond_its_slice_is_refused() {
        let values = [1.0; 6];
        product(
            &mut [0.0; 9],
            3,
            Onto::Zero,
            1.0,
            View::new(&values, 3, 3, 3),
            View::new(&[1.0; 9], 3, 3, 3),
        );
    }
}
