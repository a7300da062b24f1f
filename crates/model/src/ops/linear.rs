//! y = x Wᵀ + b, the product in which nearly all time goes.

use burn::tensor::Tensor;
use gemm::Parallelism;
use rayon::prelude::*;

use super::gradient::{column_sums, record, variable};
use super::matrix::{PANEL, Panel, PanelValues};
use super::product::{Operand, product, product_into};
use super::stored::multiply_stored;
use super::{Matrix, Shared, uninitialized};
use crate::host::{self, HostView};

/// Tokens of one task: their inputs stay in the second-level cache while the panels pass.
const TOKENS: usize = 512;

/// Panels of one task.
const PANELS: usize = 4;

/// Multiplications that a task must have to be worth handing to another thread.
const LEAST_WORK: usize = 128 << 10;

/// x Wᵀ + b: `x` is `[tokens, d_in]`, `weight` `[d_out, d_in]`, `bias` `[d_out]`; gives `[tokens, d_out]`.
pub fn linear(x: &Tensor<2>, weight: &Matrix, bias: Option<&Tensor<1>>) -> Tensor<2> {
    match weight.tensor() {
        Some(w) if host::is_cpu(&x.device()) => tracked(x, w, bias),
        Some(w) => {
            let product = x.clone().matmul(w.clone().transpose());
            match bias {
                Some(bias) => product + bias.clone().unsqueeze(),
                None => product,
            }
        }
        None => {
            let (tokens, d_out) = (x.dims()[0], weight.shape()[0]);
            // SAFETY: the kernel writes every value, as it does not accumulate.
            let mut y = unsafe { uninitialized(tokens * d_out) };
            multiply(&HostView::of(x), weight, bias.map(HostView::of).as_deref(), &mut y, false);
            match x.device().is_autodiff() {
                true => frozen(x, weight, bias, y),
                false => host::tensor(y, [tokens, d_out], &x.device()),
            }
        }
    }
}

/// The backward step of a product with a weight that wants no gradient: dx = dy W, db = Σ dy. `y` is the product.
fn frozen(x: &Tensor<2>, weight: &Matrix, bias: Option<&Tensor<1>>, y: Vec<f32>) -> Tensor<2> {
    let (weight, [d_out, _]) = (weight.clone(), weight.shape());
    let shape = [x.dims()[0], d_out];
    match bias.map(variable) {
        None => {
            record([variable(x)], y, shape, move |dy, [wants]| [wants.then(|| turned_product(dy, &weight))])
        }
        Some(bias) => record([variable(x), bias], y, shape, move |dy, [wants, wants_bias]| {
            [wants.then(|| turned_product(dy, &weight)), wants_bias.then(|| column_sums(dy, d_out))]
        }),
    }
}

/// Panels of a weight whose rows are taken at a time for dy W.
const ROWS: usize = 4;

/// dy W, `[tokens, d_in]`, of a weight in panels or in its file.
fn turned_product(dy: &[f32], weight: &Matrix) -> Vec<f32> {
    let [d_out, d_in] = weight.shape();
    let tokens = dy.len() / d_out.max(1);
    let mut dx = vec![0.0; tokens * d_in];
    for first in (0..weight.panels()).step_by(ROWS) {
        let values = weight.panel_rows(first..weight.panels().min(first + ROWS));
        let rows = first * PANEL..first * PANEL + values.len() / d_in;
        let dy = Operand::new(dy, [tokens, d_out]).columns(rows.clone());
        product_into(&mut dx, dy, Operand::new(&values, [rows.len(), d_in]), true);
    }
    dx
}

/// The product on the cpu device with its backward step: dx = dy W, dW = dyᵀ x, db = Σ dy.
fn tracked(x: &Tensor<2>, weight: &Tensor<2>, bias: Option<&Tensor<1>>) -> Tensor<2> {
    let ([tokens, d_in], [d_out, _]) = (x.dims(), weight.dims());
    let inputs = (variable(x), variable(weight), bias.map(variable));
    let (x, weight, bias) = (HostView::of(x), HostView::of(weight), bias.map(HostView::of));
    let mut y = product(Operand::new(&x, [tokens, d_in]), Operand::new(&weight, [d_out, d_in]).transposed());
    if let Some(bias) = bias {
        y.par_chunks_exact_mut(d_out.max(1)).with_min_len(16).for_each(|row| {
            row.iter_mut().zip(&*bias).for_each(|(y, b)| *y += b);
        });
    }
    let backward = move |dy: &[f32], [wants_x, wants_weight]: [bool; 2]| {
        let dy = Operand::new(dy, [tokens, d_out]);
        let dx = wants_x.then(|| product(dy, Operand::new(&weight, [d_out, d_in])));
        let dw = wants_weight.then(|| product(dy.transposed(), Operand::new(&x, [tokens, d_in])));
        [dx, dw]
    };
    match inputs {
        (x, weight, None) => record([x, weight], y, [tokens, d_out], backward),
        (x, weight, Some(bias)) => {
            record([x, weight, bias], y, [tokens, d_out], move |dy, [wants_x, wants_weight, wants_bias]| {
                let [dx, dw] = backward(dy, [wants_x, wants_weight]);
                [dx, dw, wants_bias.then(|| column_sums(dy, d_out))]
            })
        }
    }
}

/// y + x Wᵀ + b, where `y` is `[tokens, d_out]`: a linear layer onto the residual stream.
pub fn linear_onto(y: Tensor<2>, x: &Tensor<2>, weight: &Matrix, bias: Option<&Tensor<1>>) -> Tensor<2> {
    if weight.tensor().is_some() || y.device().is_autodiff() {
        return y + linear(x, weight, bias);
    }
    let (shape, device) = (y.dims(), y.device());
    let mut sum = host::into_vec(y);
    let bias = bias.map(HostView::of);
    multiply(&HostView::of(x), weight, bias.as_deref(), &mut sum, true);
    host::tensor(sum, shape, &device)
}

/// y = x Wᵀ + b, or y += x Wᵀ + b: `x` is `[tokens, d_in]`, `y` `[tokens, d_out]`.
fn multiply(x: &[f32], weight: &Matrix, bias: Option<&[f32]>, y: &mut [f32], accumulate: bool) {
    let [d_out, d_in] = weight.shape();
    let tokens = x.len() / d_in;
    assert_eq!((x.len(), y.len()), (tokens * d_in, tokens * d_out), "operands of a product");
    let target = Shared(y.as_mut_ptr());
    for_each_tile(tokens, weight, |first_token, tokens, panels| {
        let x = &x[first_token * d_in..][..tokens * d_in];
        for index in panels {
            let panel = weight.panel(index);
            // SAFETY: in bounds, as asserted above; tiles are disjoint in tokens or in panels.
            unsafe {
                let tile = target.get().add(first_token * d_out + panel.first_row);
                multiply_panel(x, d_in, &panel, tile, d_out, accumulate);
                if let Some(bias) = bias {
                    add_bias(tile, d_out, tokens, &bias[panel.first_row..][..panel.rows]);
                }
            }
        }
    });
}

/// Calls `task(first token, tokens, panels)` in parallel for tiles that cover the product of `tokens` with `weight`, the
/// same ones whatever the number of threads.
pub(super) fn for_each_tile(
    tokens: usize,
    weight: &Matrix,
    task: impl Fn(usize, usize, std::ops::Range<usize>) + Sync,
) {
    // The panels of a small matrix are dealt out singly, or there would be too few tasks for all threads.
    let (panels, [d_out, d_in]) = (weight.panels(), weight.shape());
    let together = if tokens < TOKENS { 1 } else { PANELS };
    let groups = panels.div_ceil(together);
    let tiles = tokens.div_ceil(TOKENS) * groups;
    let tasks_at_least = LEAST_WORK / (tokens * d_out * d_in / tiles.max(1)).max(1);
    let splits =
        (0..tiles).into_par_iter().with_min_len(tasks_at_least.max(1)).with_max_len(tasks_at_least.max(1));
    splits.for_each(|tile| {
        let (token, group) = (tile / groups * TOKENS, tile % groups * together);
        task(token, TOKENS.min(tokens - token), group..panels.min(group + together));
    });
}

/// One panel's outputs: `y[token · stride + row]` for the tokens of `x` and the rows of the panel.
///
/// # Safety
/// `y` is valid for these writes (and reads, if it accumulates), and nobody else uses the elements.
pub(super) unsafe fn multiply_panel(
    x: &[f32],
    d_in: usize,
    panel: &Panel<'_>,
    y: *mut f32,
    stride: usize,
    accumulate: bool,
) {
    let rows = panel.first_row..panel.first_row + panel.rows;
    // SAFETY: by the caller.
    unsafe {
        match panel.values {
            PanelValues::Turned(values) => {
                multiply_rows(x, d_in, (values, (1, panel.rows)), y, stride, accumulate)
            }
            PanelValues::Stored(stored) => multiply_stored(x, d_in, (stored, rows), y, stride, accumulate),
        }
    }
}

/// `y[token · stride + i]` for the tokens of `x` and the rows in `values`, which lie there by (row stride, column
/// stride).
///
/// # Safety
/// As [`multiply_panel`].
pub(super) unsafe fn multiply_rows(
    x: &[f32],
    d_in: usize,
    (values, (row_stride, column_stride)): (&[f32], (usize, usize)),
    y: *mut f32,
    stride: usize,
    accumulate: bool,
) {
    let (tokens, rows) = (x.len() / d_in, values.len() / d_in);
    // SAFETY: the caller answers for `y`; the other operands are whole slices of these dimensions.
    unsafe {
        gemm::gemm(
            rows,
            tokens,
            d_in,
            y,
            stride as isize,
            1,
            accumulate,
            values.as_ptr(),
            column_stride as isize,
            row_stride as isize,
            x.as_ptr(),
            d_in as isize,
            1,
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// Adds the bias to every token's outputs of one panel.
///
/// # Safety
/// As [`multiply_panel`].
pub(super) unsafe fn add_bias(y: *mut f32, stride: usize, tokens: usize, bias: &[f32]) {
    for token in 0..tokens {
        // SAFETY: by the caller.
        let row = unsafe { std::slice::from_raw_parts_mut(y.add(token * stride), bias.len()) };
        row.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
    }
}
