//! Root-mean-square normalization (Zhang and Sennrich 2019, arXiv:1910.07467, equation 4).

use burn::tensor::Tensor;
use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;
use slmc_matmul::memory::uninitialized;

use super::gradient::{add_up, record, variable};
use super::lanes;
use crate::host::{self, HostView};

/// Rows of one task.
const ROWS: usize = 64;

/// x / √(mean(x²) + ε) · weight, row by row: `x` is `[tokens, width]`, `weight` `[width]`.
pub fn rms_norm(x: &Tensor<2>, weight: &Tensor<1>, epsilon: f64) -> Tensor<2> {
    let device = x.device();
    if !host::is_cpu(&device) {
        let mean_square = x.clone().square().mean_dim(1);
        return x.clone() / (mean_square + epsilon).sqrt() * weight.clone().unsqueeze();
    }
    let [tokens, width] = x.dims();
    let (values, weights, arch) = (HostView::of(x), HostView::of(weight), Arch::new());
    assert_eq!(weights.len(), width, "weights of a norm");
    // SAFETY: every row is written.
    let mut y = unsafe { uninitialized(tokens * width) };
    let task = width.max(1) * ROWS;
    y.par_chunks_mut(task).zip(values.par_chunks(task)).for_each(|(y, x)| {
        arch.dispatch(Normalize { x, weight: &weights, epsilon, y });
    });
    if !device.is_autodiff() {
        return host::tensor(y, [tokens, width], &device);
    }
    record([variable(x), variable(weight)], y, [tokens, width], move |dy, [wants_x, wants_weight]| {
        let (dx, dw) = backward(&values, &weights, epsilon, dy);
        [wants_x.then_some(dx), wants_weight.then_some(dw)]
    })
}

/// Gradients of x and of the weight from that of y.
fn backward(x: &[f32], weight: &[f32], epsilon: f64, dy: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let (width, arch) = (weight.len(), Arch::new());
    // SAFETY: every row is written.
    let mut dx = unsafe { uninitialized(x.len()) };
    let task = width.max(1) * ROWS;
    let chunks = dx.par_chunks_mut(task).zip(x.par_chunks(task)).zip(dy.par_chunks(task));
    let parts: Vec<Vec<f32>> = chunks
        .map(|((dx, x), dy)| {
            let mut dw = vec![0.0; width];
            arch.dispatch(Denormalize { x, weight, epsilon, dy, dx, dw: &mut dw });
            dw
        })
        .collect();
    (dx, add_up(&parts, width))
}

/// Some rows of x and of y.
struct Normalize<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    epsilon: f64,
    y: &'a mut [f32],
}

/// 1/√(mean(x²) + ε) of a row.
#[inline(always)]
fn inverse_root(x: &[f32], epsilon: f64) -> f32 {
    let mean_square = lanes::sum_of_squares(x) / x.len() as f64;
    (1.0 / (mean_square + epsilon).sqrt()) as f32
}

/// A type of its own, as the body of a closure need not be compiled for the vector instructions found.
impl NullaryFnOnce for Normalize<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let width = self.weight.len();
        for (y, x) in self.y.chunks_exact_mut(width).zip(self.x.chunks_exact(width)) {
            let scale = inverse_root(x, self.epsilon);
            for ((y, &x), &weight) in y.iter_mut().zip(x).zip(self.weight) {
                *y = x * scale * weight;
            }
        }
    }
}

/// Some rows of x, dy and dx, and the sum over these rows of the weight's gradient.
///
/// With r = 1/√(mean(x²) + ε) and g = dy · weight: dx = r g − x r³ mean(g x), dw = Σ dy x r.
struct Denormalize<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    epsilon: f64,
    dy: &'a [f32],
    dx: &'a mut [f32],
    dw: &'a mut [f32],
}

impl NullaryFnOnce for Denormalize<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let width = self.weight.len();
        let rows = self.dx.chunks_exact_mut(width).zip(self.x.chunks_exact(width));
        for ((dx, x), dy) in rows.zip(self.dy.chunks_exact(width)) {
            let scale = inverse_root(x, self.epsilon);
            // g first, then the rest in its place.
            for (((dx, dw), (&x, &dy)), &weight) in
                dx.iter_mut().zip(self.dw.iter_mut()).zip(x.iter().zip(dy)).zip(self.weight)
            {
                *dw += dy * x * scale;
                *dx = dy * weight;
            }
            let mean = lanes::sum_of_products(dx, x) / width as f64;
            let along = (mean * f64::from(scale).powi(3)) as f32;
            for (dx, &x) in dx.iter_mut().zip(x) {
                *dx = *dx * scale - x * along;
            }
        }
    }
}
