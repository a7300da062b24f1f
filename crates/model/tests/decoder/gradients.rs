//! The backward steps of the cpu device's kernels against burn's own automatic differentiation (burn-ndarray), and the whole
//! decoder's against PyTorch's.

use crate::common::{golden, largest_difference, noise, tensor};
use slmc_model::arch::Activation;
use slmc_model::ops::{self, AttentionShape, Matrix, RopeTables};
use slmc_model::{
    Block, BurnDevice, CheckpointSource, Context, Device, Gradients, Head, HostView, KvPrecision,
    ModelConfig, NoObserver, Rotation, Tensor, TensorId, WeightSource, embed, host,
};

/// Gradients of Σ y · noise by each of the inputs that `operation` makes, on both devices; they must agree to `limit`.
fn agree(what: &str, limit: f32, operation: impl Fn(&BurnDevice) -> (Tensor<2>, Vec<Leaf>)) {
    let [kernel, plain] = [Device::Cpu, Device::NdArray].map(|device| {
        let device = device.burn().unwrap().autodiff();
        let (y, leaves) = operation(&device);
        let [rows, columns] = y.dims();
        let direction = tensor(noise(rows * columns, 77), [rows, columns], &device);
        let mut gradients = (y * direction).sum().backward();
        leaves.into_iter().map(|leaf| leaf(&mut gradients)).collect::<Vec<_>>()
    });
    assert_eq!(kernel.len(), plain.len());
    for (input, (kernel, plain)) in kernel.iter().zip(&plain).enumerate() {
        let size = plain.iter().fold(1.0f32, |a, b| a.max(b.abs()));
        let difference = largest_difference(kernel, plain) / size;
        assert!(difference <= limit, "{what}, input {input}: {difference:e}");
        assert!(plain.iter().any(|&value| value != 0.0), "{what}, input {input}: no gradient at all");
    }
}

/// Takes one input's gradient.
type Leaf = Box<dyn FnOnce(&mut Gradients) -> Vec<f32>>;

fn leaf<const D: usize>(tensor: &Tensor<D>) -> Leaf {
    let tensor = tensor.clone();
    Box::new(move |gradients| host::into_vec(tensor.grad_remove(gradients).expect("a gradient")))
}

fn input<const D: usize>(seed: u64, shape: [usize; D], device: &BurnDevice) -> Tensor<D> {
    tensor(noise(shape.iter().product(), seed), shape, device).require_grad()
}

/// A matrix's gradient comes out of a block by its role; here it is reached through the product's other operand.
#[test]
fn linear() {
    for [tokens, d_in, d_out] in [[1, 3, 1], [7, 64, 48], [600, 130, 300]] {
        for with_bias in [false, true] {
            agree("linear", 1e-5, |device| {
                let x = input(1, [tokens, d_in], device);
                let w = Matrix::new(noise(d_out * d_in, 2), [d_out, d_in], device);
                let bias = input(3, [d_out], device);
                let y =
                    ops::linear_onto(input(4, [tokens, d_out], device), &x, &w, with_bias.then_some(&bias));
                let mut leaves = vec![leaf(&x)];
                if with_bias {
                    leaves.push(leaf(&bias));
                }
                (y, leaves)
            });
        }
    }
}

#[test]
fn gated() {
    for ([tokens, d_in, d_out], activation) in [
        ([1, 5, 3], Activation::Silu),
        ([520, 64, 150], Activation::Silu),
        ([520, 64, 150], Activation::GeluTanh),
    ] {
        agree("gated", 1e-5, |device| {
            let x = input(1, [tokens, d_in], device);
            let matrix = |seed| {
                Matrix::new(
                    noise(d_out * d_in, seed).iter().map(|w| 0.5 * w).collect(),
                    [d_out, d_in],
                    device,
                )
            };
            let bias = input(9, [d_out], device);
            let y = ops::gated(&x, &x, (&matrix(2), Some(&bias)), (&matrix(3), None), activation);
            (y, vec![leaf(&x), leaf(&bias)])
        });
    }
}

#[test]
fn rms_norm() {
    for [tokens, width] in [[1, 2], [3, 17], [200, 96]] {
        agree("rms norm", 1e-5, |device| {
            let (x, weight) = (input(1, [tokens, width], device), input(2, [width], device));
            (ops::rms_norm(&x, &weight, 1e-5), vec![leaf(&x), leaf(&weight)])
        });
    }
}

#[test]
fn rope() {
    let config = CheckpointSource::open(&golden("llama3_tied_head_dim").dir).unwrap().config().clone();
    let part = ModelConfig { rotary_dim: 12, ..config.clone() };
    for (heads, config) in [(1, &config), (3, &config), (3, &part)] {
        agree("rope", 1e-6, |device| {
            let (batch, seq, width) = (2, 21, heads * config.head_dim);
            let tables = RopeTables::new(config, Rotation::Global, 30, device).unwrap();
            let x = input(1, [batch * seq, width], device);
            (ops::rope(x.clone(), 5..5 + seq, &tables), vec![leaf(&x)])
        });
    }
}

#[test]
fn attention() {
    for (seq, window, softcap) in [
        (2, None, None),
        (5, Some(2), None),
        (64, None, Some(2.0)),
        (150, None, None),
        (150, Some(70), Some(3.0)),
    ] {
        for (heads, key_value_heads) in [(1, 1), (4, 2), (6, 2)] {
            let (head_dim, scale) = (16, 0.25);
            let shape = AttentionShape { seq, heads, key_value_heads, head_dim, window, scale, softcap };
            agree(&format!("{shape:?}"), 2e-5, |device| {
                let q = input(1, [2 * seq, heads * 16], device);
                let [k, v] = [2, 3].map(|seed| input(seed, [2 * seq, key_value_heads * 16], device));
                // Times 3, for weights far from uniform.
                (ops::attention(&(q.clone() * 3.0), &k, &v, shape), vec![leaf(&q), leaf(&k), leaf(&v)])
            });
        }
    }
}

/// Gradients of every weight of the blocks and of the last norm, and of the embedded tokens, for Σ normed · noise.
fn model_gradients(
    source: &dyn WeightSource,
    tokens: &[u32],
    seq: usize,
    device: &BurnDevice,
) -> Vec<(TensorId, Vec<f32>)> {
    let (config, device) = (source.config().clone(), device.clone().autodiff());
    let context = Context::new(&config, seq, &device, KvPrecision::F32);
    let embedded = embed(source, tokens, seq, &device).unwrap().require_grad();
    let blocks: Vec<Block> =
        (0..config.num_hidden_layers).map(|layer| Block::load(source, layer, &device).unwrap()).collect();
    let hidden = blocks
        .iter()
        .fold(embedded.clone(), |hidden, block| block.forward(hidden, &context, &mut NoObserver).unwrap());
    let head = Head::load(source, &device).unwrap();
    let normed = head.normalize(&hidden.reshape([tokens.len(), config.hidden_size]));
    let direction = tensor(noise(tokens.len() * config.hidden_size, 5), normed.dims(), &device);
    let mut gradients = (normed * direction).sum().backward();
    let mut found = vec![(
        TensorId::global(slmc_model::Role::TokenEmbedding),
        host::into_vec(embedded.grad_remove(&mut gradients).unwrap()),
    )];
    for id in config.tensors() {
        match id.layer {
            Some(layer) => {
                found.push((id, blocks[layer].gradient(id.role, &mut gradients).unwrap().expect("reached")))
            }
            None if id.role == slmc_model::Role::FinalNorm => {
                found.push((id, head.gradient(&mut gradients).expect("reached")));
            }
            None => {}
        }
    }
    found
}

/// Every family: the kernels' gradients are burn-ndarray's, and the same bits with any number of threads.
#[test]
fn whole_models() {
    for name in crate::common::CASES {
        let case = golden(name);
        let source = CheckpointSource::open(&case.dir).unwrap();
        let run = |device: Device| model_gradients(&source, &case.tokens, case.seq, &device.burn().unwrap());
        let (kernel, plain) = (run(Device::Cpu), run(Device::NdArray));
        for ((id, kernel), (_, plain)) in kernel.iter().zip(&plain) {
            let size = plain.iter().fold(0.0f32, |a, b| a.max(b.abs()));
            assert!(size > 0.0, "{name}, {id}: no gradient");
            let difference = largest_difference(kernel, plain) / size;
            assert!(difference < 1e-4, "{name}, {id}: {difference:e}");
        }
        let alone =
            rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap().install(|| run(Device::Cpu));
        assert!(alone == kernel, "{name}: other bits with one thread");
    }
}

/// Weights that lie as a device with gradients wants them give the logits that they give elsewhere.
#[test]
fn forward_passes_agree() {
    for name in crate::common::CASES {
        let case = golden(name);
        let source = CheckpointSource::open(&case.dir).unwrap();
        let device = BurnDevice::flex().autodiff();
        let logits = crate::forward::logits(&source, &case.tokens, case.seq, &device, KvPrecision::F32);
        assert!(largest_difference(&logits, &case.logits) < 2e-4, "{name}");
        let normed = HostView::of(&embed(&source, &case.tokens, case.seq, &device).unwrap()).len();
        assert_eq!(normed, case.tokens.len() * source.config().hidden_size);
    }
}
