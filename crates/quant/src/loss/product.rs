//! The one matrix product of this crate.

/// out = A Bᵀ on the calling thread: `a` is `[m, k]`, `b` `[n, k]`, `out` `[m, n]`, row-major.
///
/// # Panics
/// If the lengths are not multiples of `k` or `out` is not m · n long.
pub(super) fn multiply_transposed(a: &[f32], b: &[f32], k: usize, out: &mut [f32]) {
    assert!(k > 0 && a.len().is_multiple_of(k) && b.len().is_multiple_of(k));
    let (m, n) = (a.len() / k, b.len() / k);
    assert_eq!(out.len(), m * n);
    // SAFETY: the strides below stay inside slices of the lengths asserted above, and `out` is borrowed alone.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            false,
            a.as_ptr(),
            1,
            k as isize,
            b.as_ptr(),
            k as isize,
            1,
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::multiply_transposed;

    #[test]
    fn agrees_with_three_loops() {
        let (m, n, k) = (5, 7, 19);
        let a: Vec<f32> = (0..m * k).map(|i| (i * 37 % 23) as f32 - 11.0).collect();
        let b: Vec<f32> = (0..n * k).map(|i| (i * 29 % 17) as f32 - 8.0).collect();
        let mut out = vec![f32::NAN; m * n];
        multiply_transposed(&a, &b, k, &mut out);
        for i in 0..m {
            for j in 0..n {
                let plain: f32 = (0..k).map(|l| a[i * k + l] * b[j * k + l]).sum();
                assert_eq!(out[i * n + j], plain);
            }
        }
    }
}
