//! The one matrix product of this module.

use gemm::Parallelism;

use super::tile::{Lanes, ROWS};

/// targets\[i\] += Σ_j M\[source + j, column + i\] · values\[j\], where M is `[n, n]`, row-major; on the calling thread.
///
/// # Panics
/// If the rows and columns named are not those of M.
pub fn accumulate(
    targets: &mut [Lanes],
    matrix: &[f32],
    n: usize,
    source: usize,
    column: usize,
    values: &[Lanes],
) {
    let (m, k) = (targets.len(), values.len());
    if m == 0 || k == 0 {
        return;
    }
    assert!(source + k <= n && column + m <= n && matrix.len() == n * n);
    // SAFETY: dst is `targets`, `[m, ROWS]` row-major and borrowed alone; rhs is `values`, `[k, ROWS]` row-major; element
    // (i, j) of lhs is M[source + j, column + i], inside the matrix by the assertion.
    unsafe {
        gemm::gemm(
            m,
            ROWS,
            k,
            targets.as_mut_ptr().cast::<f32>(),
            1,
            ROWS as isize,
            true,
            matrix.as_ptr().add(source * n + column),
            n as isize,
            1,
            values.as_ptr().cast::<f32>(),
            1,
            ROWS as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
