//! y = x Wᵀ + b, the product in which nearly all time goes.

use std::ops::Range;

use burn::tensor::Tensor;
use rayon::prelude::*;
use slmc_matmul::memory::{Shared, uninitialized};
use slmc_matmul::{Onto, Operand, Precision, multiply_at, product, product_into, products_into};

use super::Matrix;
use super::gradient::{column_sums, record, variable};
use super::matrix::{PANEL, Panel, PanelValues};
use super::stored::multiply_token;
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
        Some(w) if host::is_cpu(&x.device()) => tracked(x, w, bias, weight.precision()),
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
            multiply(&HostView::of(x), weight, bias.map(HostView::of).as_deref(), &mut y, Onto::Zero);
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
        product_into(
            weight.precision(),
            &mut dx,
            Onto::Itself,
            dy,
            Operand::new(&values, [rows.len(), d_in]),
        );
    }
    dx
}

/// The product on the cpu device with its backward step: dx = dy W, dW = dyᵀ x, db = Σ dy.
fn tracked(x: &Tensor<2>, weight: &Tensor<2>, bias: Option<&Tensor<1>>, precision: Precision) -> Tensor<2> {
    let ([tokens, d_in], [d_out, _]) = (x.dims(), weight.dims());
    let inputs = (variable(x), variable(weight), bias.map(variable));
    let (x, weight, bias) = (HostView::of(x), HostView::of(weight), bias.map(HostView::of));
    let (rows, columns) =
        (Operand::new(&x, [tokens, d_in]), Operand::new(&weight, [d_out, d_in]).transposed());
    let mut y = product(precision, rows, columns);
    if let Some(bias) = bias {
        add_to_rows(&mut y, &bias);
    }
    let backward = move |dy: &[f32], [wants_x, wants_weight]: [bool; 2]| {
        let dy = Operand::new(dy, [tokens, d_out]);
        let dx = wants_x.then(|| product(precision, dy, Operand::new(&weight, [d_out, d_in])));
        let dw = wants_weight.then(|| product(precision, dy.transposed(), Operand::new(&x, [tokens, d_in])));
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
    multiply(&HostView::of(x), weight, bias.as_deref(), &mut sum, Onto::Itself);
    host::tensor(sum, shape, &device)
}

/// y = x Wᵀ + b, or y += x Wᵀ + b: `x` is `[tokens, d_in]`, `y` `[tokens, d_out]`.
pub(super) fn multiply(x: &[f32], weight: &Matrix, bias: Option<&[f32]>, y: &mut [f32], onto: Onto) {
    let [d_out, d_in] = weight.shape();
    let tokens = x.len() / d_in;
    assert_eq!((x.len(), y.len()), (tokens * d_in, tokens * d_out), "operands of a product");
    if weight.precision() != Precision::F32 {
        return multiply_rounded(x, weight, bias, y, onto);
    }
    let target = Shared(y.as_mut_ptr());
    for_each_tile(tokens, weight, |first_token, tokens, panels| {
        let x = &x[first_token * d_in..][..tokens * d_in];
        for index in panels {
            let panel = weight.panel(index);
            // SAFETY: in bounds, as asserted above; tiles are disjoint in tokens or in panels.
            unsafe {
                let tile = target.get().add(first_token * d_out + panel.first_row);
                multiply_panel(x, d_in, &panel, tile, d_out, onto);
                if let Some(bias) = bias {
                    add_bias(tile, d_out, tokens, &bias[panel.first_row..][..panel.rows]);
                }
            }
        }
    });
}

/// Panels that are taken out of their file at a time.
const DECODED: usize = 32;

/// As [`multiply`], in the weight's precision: everything is packed anew, so the panels go through the product together.
fn multiply_rounded(x: &[f32], weight: &Matrix, bias: Option<&[f32]>, y: &mut [f32], onto: Onto) {
    let [d_out, d_in] = weight.shape();
    let x = Operand::new(x, [x.len() / d_in, d_in]);
    let at_once = if weight.is_stored() { DECODED } else { weight.panels().max(1) };
    for first in (0..weight.panels()).step_by(at_once) {
        let panels: Vec<Panel<'_>> =
            (first..weight.panels().min(first + at_once)).map(|index| weight.panel(index)).collect();
        let decoded: Vec<Vec<f32>> = panels.par_iter().map(|panel| panel.decode(d_in)).collect();
        let right: Vec<Operand<'_>> = panels
            .iter()
            .zip(&decoded)
            .map(|(panel, decoded)| match panel.values {
                PanelValues::Turned(values) => Operand::new(values, [d_in, panel.rows]),
                PanelValues::Stored(_) => Operand::new(decoded, [panel.rows, d_in]).transposed(),
            })
            .collect();
        products_into(weight.precision(), &mut y[first * PANEL..], d_out, onto, x, &right);
    }
    if let Some(bias) = bias {
        add_to_rows(y, bias);
    }
}

/// Adds the bias to every row.
fn add_to_rows(y: &mut [f32], bias: &[f32]) {
    y.par_chunks_exact_mut(bias.len().max(1)).with_min_len(16).for_each(|row| {
        row.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
    });
}

/// Calls `task(first token, tokens, panels)` in parallel for tiles that cover the product of `tokens` with `weight`, the
/// same ones whatever the number of threads.
pub(super) fn for_each_tile(
    tokens: usize,
    weight: &Matrix,
    task: impl Fn(usize, usize, Range<usize>) + Sync,
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

/// One panel's outputs in f32: `y[token · stride + row]` for the tokens of `x` and the rows of the panel.
///
/// # Safety
/// `y` is valid for these writes (and reads, if they are added to), and nobody else uses the elements.
pub(super) unsafe fn multiply_panel(
    x: &[f32],
    d_in: usize,
    panel: &Panel<'_>,
    y: *mut f32,
    stride: usize,
    onto: Onto,
) {
    let tokens = x.len() / d_in;
    if let (PanelValues::Stored(stored), 1) = (&panel.values, tokens) {
        // SAFETY: by the caller.
        let y = unsafe { std::slice::from_raw_parts_mut(y, panel.rows) };
        return multiply_token(x, *stored, panel.first_row, y, onto);
    }
    let decoded = panel.decode(d_in);
    let rows = match panel.values {
        PanelValues::Turned(values) => Operand::new(values, [d_in, panel.rows]),
        PanelValues::Stored(_) => Operand::new(&decoded, [panel.rows, d_in]).transposed(),
    };
    let x = Operand::new(x, [tokens, d_in]);
    // SAFETY: by the caller.
    unsafe { multiply_at(Precision::F32, y, stride, onto, 1.0, x, &[rows]) };
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
