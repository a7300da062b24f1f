//! Root-mean-square normalization (Zhang and Sennrich 2019, arXiv:1910.07467, equation 4).

use burn::tensor::Tensor;
use pulp::Arch;
use rayon::prelude::*;

use super::{lanes, uninitialized};
use crate::host::{self, HostView};

/// Rows of one task.
const ROWS: usize = 64;

/// x / √(mean(x²) + ε) · weight, row by row: `x` is `[tokens, width]`, `weight` `[width]`.
pub fn rms_norm(x: &Tensor<2>, weight: &Tensor<1>, epsilon: f64) -> Tensor<2> {
    if !host::is_cpu(&x.device()) {
        let mean_square = x.clone().square().mean_dim(1);
        return x.clone() / (mean_square + epsilon).sqrt() * weight.clone().unsqueeze();
    }
    let [tokens, width] = x.dims();
    let (values, weight, arch) = (HostView::of(x), HostView::of(weight), Arch::new());
    assert_eq!(weight.len(), width, "weights of a norm");
    // SAFETY: every row is written.
    let mut y = unsafe { uninitialized(tokens * width) };
    let task = width.max(1) * ROWS;
    y.par_chunks_mut(task).zip(values.par_chunks(task)).for_each(|(y, x)| {
        arch.dispatch(|| {
            for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                let mean_square = lanes::sum_of_squares(x) / width as f64;
                let scale = (1.0 / (mean_square + epsilon).sqrt()) as f32;
                for ((y, &x), &weight) in y.iter_mut().zip(x).zip(weight.iter()) {
                    *y = x * scale * weight;
                }
            }
        });
    });
    host::tensor(y, [tokens, width], &x.device())
}
