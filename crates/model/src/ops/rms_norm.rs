//! Root-mean-square normalization (Zhang and Sennrich 2019, arXiv:1910.07467, equation 4).

use burn::tensor::Tensor;
use pulp::{Arch, NullaryFnOnce};
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
        arch.dispatch(Normalize { x, weight: &weight, epsilon, y });
    });
    host::tensor(y, [tokens, width], &x.device())
}

/// Some rows of x and of y.
struct Normalize<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    epsilon: f64,
    y: &'a mut [f32],
}

/// A type of its own, as the body of a closure need not be compiled for the vector instructions found.
impl NullaryFnOnce for Normalize<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let width = self.weight.len();
        for (y, x) in self.y.chunks_exact_mut(width).zip(self.x.chunks_exact(width)) {
            let mean_square = lanes::sum_of_squares(x) / width as f64;
            let scale = (1.0 / (mean_square + self.epsilon).sqrt()) as f32;
            for ((y, &x), &weight) in y.iter_mut().zip(x).zip(self.weight) {
                *y = x * scale * weight;
            }
        }
    }
}
