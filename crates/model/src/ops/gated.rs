//! act(x Gᵀ) · (x Uᵀ), the first half of the MLP, without ever holding the two factors whole.
//!
//! Every activation here is x · sigmoid(u(x)), with u = x (SiLU) or u = 2√(2/π) (x + 0.044715 x³) (GELU's tanh approximation).

use burn::tensor::{Tensor, activation as burn_activation};
use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;
use slmc_matmul::memory::{Shared, uninitialized};
use slmc_matmul::{Onto, Precision};

use super::Matrix;
use super::exponential::exp;
use super::gradient::{record, variable};
use super::linear::{add_bias, for_each_tile, linear, multiply, multiply_panel};
use crate::arch::Activation;
use crate::host::{self, HostView};

/// A weight `[d_out, d_in]` with its bias `[d_out]`.
type Layer<'a> = (&'a Matrix, Option<&'a Tensor<1>>);

/// act(gate(x)) · up(x): `x_gate` and `x_up` are both `[tokens, d_in]` (the same input, unless the two weights
/// want it rounded differently); gives `[tokens, intermediate]`.
pub fn gated(
    x_gate: &Tensor<2>,
    x_up: &Tensor<2>,
    gate: Layer<'_>,
    up: Layer<'_>,
    activation: Activation,
) -> Tensor<2> {
    if gate.0.tensor().is_some() || x_gate.device().is_autodiff() {
        return activated_times(&linear(x_gate, gate.0, gate.1), &linear(x_up, up.0, up.1), activation);
    }
    let (tokens, [d_out, d_in]) = (x_gate.dims()[0], gate.0.shape());
    assert_eq!(gate.0.shape(), up.0.shape(), "gate and up");
    let (xs, arch) = ([HostView::of(x_gate), HostView::of(x_up)], Arch::new());
    assert!(xs.iter().all(|x| x.len() == tokens * d_in), "inputs of gate and up");
    let biases = [gate.1.map(HostView::of), up.1.map(HostView::of)];
    // SAFETY: the tiles below cover it.
    let mut y = unsafe { uninitialized(tokens * d_out) };
    if gate.0.precision() != Precision::F32 {
        let mut factors = [Vec::new(), Vec::new()];
        for (number, y) in y.chunks_mut((TOKENS * d_out).max(1)).enumerate() {
            for (((factor, matrix), x), bias) in factors.iter_mut().zip([gate.0, up.0]).zip(&xs).zip(&biases)
            {
                factor.resize(y.len(), 0.0);
                let tokens = number * TOKENS..number * TOKENS + y.len() / d_out;
                let x = &x[tokens.start * d_in..tokens.end * d_in];
                multiply(x, matrix, bias.as_deref(), factor, Onto::Zero);
            }
            let [gate, up] = &factors;
            let chunks = y.par_chunks_mut(CHUNK).zip(gate.par_chunks(CHUNK)).zip(up.par_chunks(CHUNK));
            chunks.for_each(|((y, gate), up)| arch.dispatch(ActivatedTimes { activation, gate, up, y }));
        }
        return host::tensor(y, [tokens, d_out], &x_gate.device());
    }
    let target = Shared(y.as_mut_ptr());
    for_each_tile(tokens, gate.0, |first_token, tokens, panels| {
        let mut factors = [Vec::new(), Vec::new()];
        for index in panels {
            let mut shape = (0, 0);
            for (((factor, matrix), x), bias) in factors.iter_mut().zip([gate.0, up.0]).zip(&xs).zip(&biases)
            {
                let panel = matrix.panel(index);
                shape = (panel.first_row, panel.rows);
                factor.resize(tokens * panel.rows, 0.0);
                let x = &x[first_token * d_in..][..tokens * d_in];
                // SAFETY: the factor is this task's own and of this size.
                unsafe {
                    multiply_panel(x, d_in, &panel, factor.as_mut_ptr(), panel.rows, Onto::Zero);
                    if let Some(bias) = bias {
                        let bias = &bias[panel.first_row..][..panel.rows];
                        add_bias(factor.as_mut_ptr(), panel.rows, tokens, bias);
                    }
                }
            }
            let [gate, up] = &factors;
            let (first_row, rows) = shape;
            for ((token, gate), up) in
                (first_token..).zip(gate.chunks_exact(rows)).zip(up.chunks_exact(rows)).take(tokens)
            {
                // SAFETY: in bounds; tiles are disjoint in tokens or in rows.
                let y = unsafe {
                    std::slice::from_raw_parts_mut(target.get().add(token * d_out + first_row), rows)
                };
                arch.dispatch(ActivatedTimes { activation, gate, up, y });
            }
        }
    });
    host::tensor(y, [tokens, d_out], &x_gate.device())
}

/// act(gate) · up: all are `[tokens, width]`.
pub fn activated_times(gate: &Tensor<2>, up: &Tensor<2>, activation: Activation) -> Tensor<2> {
    let (shape, device) = (gate.dims(), gate.device());
    if !host::is_cpu(&device) {
        return match activation {
            Activation::Silu => burn_activation::silu(gate.clone()) * up.clone(),
            Activation::GeluTanh => {
                let u = (gate.clone().powi_scalar(3) * GELU_CUBE + gate.clone()) * GELU_SLOPE;
                gate.clone() * burn_activation::sigmoid(u) * up.clone()
            }
        };
    }
    let (tensors, arch) = ([gate, up], Arch::new());
    let [gate, up] = tensors.map(HostView::of);
    // SAFETY: every value is written.
    let mut y = unsafe { uninitialized(gate.len()) };
    let chunks = y.par_chunks_mut(CHUNK).zip(gate.par_chunks(CHUNK)).zip(up.par_chunks(CHUNK));
    chunks.for_each(|((y, gate), up)| arch.dispatch(ActivatedTimes { activation, gate, up, y }));
    if !device.is_autodiff() {
        return host::tensor(y, shape, &device);
    }
    record(tensors.map(variable), y, shape, move |dy, _| {
        // SAFETY: every value of both is written.
        let [mut d_gate, mut d_up] = [(); 2].map(|()| unsafe { uninitialized(dy.len()) });
        let inputs = gate.par_chunks(CHUNK).zip(up.par_chunks(CHUNK)).zip(dy.par_chunks(CHUNK));
        let chunks = d_gate.par_chunks_mut(CHUNK).zip(d_up.par_chunks_mut(CHUNK)).zip(inputs);
        chunks.for_each(|((d_gate, d_up), ((gate, up), dy))| {
            arch.dispatch(ActivatedTimesBackward { activation, gate, up, dy, d_gate, d_up });
        });
        [Some(d_gate), Some(d_up)]
    })
}

/// Tokens whose two factors are held whole where products are not in f32.
const TOKENS: usize = 1024;

/// Values of one task.
const CHUNK: usize = 16 << 10;

/// 2√(2/π).
const GELU_SLOPE: f32 = 1.595_769_121_605_730_7_f64 as f32;

const GELU_CUBE: f32 = 0.044_715;

/// 2√(2/π) (x + 0.044715 x³).
#[inline(always)]
fn gelu_argument(x: f32) -> f32 {
    GELU_SLOPE * (GELU_CUBE * x * x).mul_add(x, x)
}

/// With s = 1/(1 + e^−u): d_up = dy gate s, d_gate = dy up s (1 + gate u′ (1 − s)).
struct ActivatedTimesBackward<'a> {
    activation: Activation,
    gate: &'a [f32],
    up: &'a [f32],
    dy: &'a [f32],
    d_gate: &'a mut [f32],
    d_up: &'a mut [f32],
}

impl ActivatedTimesBackward<'_> {
    /// `argument` gives u and u′.
    #[inline(always)]
    fn each(self, argument: impl Fn(f32) -> (f32, f32)) {
        let inputs = self.gate.iter().zip(self.up).zip(self.dy);
        for ((d_gate, d_up), ((&gate, &up), &dy)) in self.d_gate.iter_mut().zip(self.d_up).zip(inputs) {
            let (u, slope) = argument(gate);
            let sigmoid = 1.0 / (1.0 + exp(-u));
            *d_up = dy * gate * sigmoid;
            *d_gate = dy * up * sigmoid * (1.0 + gate * slope * (1.0 - sigmoid));
        }
    }
}

impl NullaryFnOnce for ActivatedTimesBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        match self.activation {
            Activation::Silu => self.each(|x| (x, 1.0)),
            Activation::GeluTanh => {
                self.each(|x| (gelu_argument(x), GELU_SLOPE * (3.0 * GELU_CUBE * x).mul_add(x, 1.0)))
            }
        }
    }
}

/// y = act(gate) · up for one token's share of a panel.
struct ActivatedTimes<'a> {
    activation: Activation,
    gate: &'a [f32],
    up: &'a [f32],
    y: &'a mut [f32],
}

impl ActivatedTimes<'_> {
    #[inline(always)]
    fn each(self, argument: impl Fn(f32) -> f32) {
        for ((y, &gate), &up) in self.y.iter_mut().zip(self.gate).zip(self.up) {
            *y = gate / (1.0 + exp(-argument(gate))) * up;
        }
    }
}

/// A type of its own, as the body of a closure need not be compiled for the vector instructions found.
impl NullaryFnOnce for ActivatedTimes<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        match self.activation {
            Activation::Silu => self.each(|x| x),
            Activation::GeluTanh => self.each(gelu_argument),
        }
    }
}
