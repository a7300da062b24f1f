//! Products of a lower precision: of values that it holds exactly they are those in f32, forward and back.

use crate::common::{largest_difference, noise, tensor};
use slmc_matmul::Precision;
use slmc_model::arch::Activation;
use slmc_model::ops::{self, Matrix};
use slmc_model::{BurnDevice, Device, HostView, Tensor, host};

/// Values that bfloat16 holds.
fn coarse(len: usize, seed: u64) -> Vec<f32> {
    noise(len, seed).into_iter().map(|value| f32::from_bits(value.to_bits() & 0xffff_0000)).collect()
}

fn matrix(shape: [usize; 2], seed: u64, precision: Precision, device: &BurnDevice) -> Matrix {
    let mut matrix = Matrix::new(coarse(shape[0] * shape[1], seed), shape, device);
    matrix.set_precision(precision);
    matrix
}

fn input(shape: [usize; 2], seed: u64, device: &BurnDevice) -> Tensor<2> {
    tensor(coarse(shape[0] * shape[1], seed), shape, device)
}

/// `compute` gives the same in both precisions, where the processor has both.
fn agree(compute: impl Fn(Precision) -> Vec<f32>) {
    if !Precision::Bf16.is_native() {
        return;
    }
    let [plain, low] = [Precision::F32, Precision::Bf16].map(compute);
    let size = plain.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    assert!(size > 0.1 && largest_difference(&plain, &low) < 1e-5 * size);
}

const SHAPES: [[usize; 3]; 3] = [[1, 40, 100], [70, 33, 100], [700, 300, 130]];

#[test]
fn linear_layers() {
    let device = Device::Cpu.burn().unwrap();
    for [tokens, d_in, d_out] in SHAPES {
        agree(|precision| {
            let weight = matrix([d_out, d_in], 2, precision, &device);
            let bias: Tensor<1> = tensor(coarse(d_out, 3), [d_out], &device);
            let onto = input([tokens, d_out], 4, &device);
            let y = ops::linear_onto(onto, &input([tokens, d_in], 1, &device), &weight, Some(&bias));
            HostView::of(&y).to_vec()
        });
    }
}

#[test]
fn gated_layers() {
    let device = Device::Cpu.burn().unwrap();
    for [tokens, d_in, d_out] in SHAPES.into_iter().chain([[2100, 16, 50]]) {
        agree(|precision| {
            let [gate, up] = [2, 5].map(|seed| matrix([d_out, d_in], seed, precision, &device));
            let bias: Tensor<1> = tensor(coarse(d_out, 3), [d_out], &device);
            let x = input([tokens, d_in], 1, &device);
            let y = ops::gated(&x, &x, (&gate, Some(&bias)), (&up, None), Activation::Silu);
            HostView::of(&y).to_vec()
        });
    }
}

#[test]
fn gradients() {
    let device = Device::Cpu.burn().unwrap().autodiff();
    for [tokens, d_in, d_out] in SHAPES {
        for frozen in [false, true] {
            agree(|precision| {
                let x = input([tokens, d_in], 1, &device).require_grad();
                let inner = if frozen { device.clone().inner() } else { device.clone() };
                let weight = matrix([d_out, d_in], 2, precision, &inner);
                let direction = input([tokens, d_out], 7, &device);
                let mut found = (ops::linear(&x, &weight, None) * direction).sum().backward();
                host::into_vec(x.grad_remove(&mut found).expect("a gradient"))
            });
        }
    }
}

#[test]
fn values_are_rounded() {
    if !Precision::Bf16.is_native() {
        return;
    }
    let device = Device::Cpu.burn().unwrap();
    let x = tensor(vec![1.0, 1.0 / 512.0 + 1.0], [1, 2], &device);
    let mut weight = Matrix::new(vec![1.0, 1.0], [1, 2], &device);
    weight.set_precision(Precision::Bf16);
    assert_eq!(HostView::of(&ops::linear(&x, &weight, None)).to_vec(), [2.0]);
}
