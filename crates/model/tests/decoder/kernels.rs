//! The cpu device's kernels against the same operations on plain burn tensors (burn-ndarray).

use crate::common::{largest_difference, noise, tensor};
use slmc_model::arch::Activation;
use slmc_model::ops::{self, AttentionShape, Documents, KeyValueCache, Matrix, RopeTables};
use slmc_model::{BurnDevice, Device, HostView, ModelConfig, Rotation, Tensor};

/// Runs `operation` on both devices; the results must agree to `limit`.
fn agree<const D: usize>(what: &str, limit: f32, operation: impl Fn(&BurnDevice) -> Tensor<D>) {
    let kernel = operation(&Device::Cpu.burn().unwrap());
    let plain = operation(&Device::NdArray.burn().unwrap());
    assert_eq!(kernel.dims(), plain.dims(), "{what}");
    let difference = largest_difference(&HostView::of(&kernel), &HostView::of(&plain));
    assert!(difference <= limit, "{what}: {difference:e}");
}

#[test]
fn linear() {
    for [tokens, d_in, d_out] in [[1, 3, 1], [7, 64, 48], [513, 40, 100], [600, 130, 300]] {
        for with_bias in [false, true] {
            agree(&format!("linear {tokens} {d_in} {d_out} {with_bias}"), 1e-4, |device| {
                let x = tensor(noise(tokens * d_in, 1), [tokens, d_in], device);
                let w = Matrix::new(noise(d_out * d_in, 2), [d_out, d_in], device);
                let bias = with_bias.then(|| tensor(noise(d_out, 3), [d_out], device));
                ops::linear(&x, &w, bias.as_ref())
            });
            agree("linear onto", 1e-4, |device| {
                let x = tensor(noise(tokens * d_in, 1), [tokens, d_in], device);
                let y = tensor(noise(tokens * d_out, 4), [tokens, d_out], device);
                let w = Matrix::new(noise(d_out * d_in, 2), [d_out, d_in], device);
                let bias = with_bias.then(|| tensor(noise(d_out, 3), [d_out], device));
                ops::linear_onto(y, &x, &w, bias.as_ref())
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
        agree("gated", 1e-4, |device| {
            let x = tensor(noise(tokens * d_in, 1), [tokens, d_in], device);
            let matrix = |seed| Matrix::new(noise(d_out * d_in, seed), [d_out, d_in], device);
            let bias = tensor(noise(d_out, 9), [d_out], device);
            ops::gated(&x, &x, (&matrix(2), Some(&bias)), (&matrix(3), None), activation)
        });
    }
}

#[test]
fn rms_norm() {
    for [tokens, width] in [[1, 1], [3, 17], [200, 96]] {
        agree("rms norm", 1e-5, |device| {
            let x = tensor(noise(tokens * width, 1), [tokens, width], device);
            let weight = tensor(noise(width, 2), [width], device);
            ops::rms_norm(&x, &weight, 1e-5)
        });
    }
}

fn config() -> ModelConfig {
    let dir = crate::common::golden("llama3_tied_head_dim").dir;
    slmc_model::WeightSource::config(&slmc_model::CheckpointSource::open(&dir).unwrap()).clone()
}

#[test]
fn rope() {
    let whole = config();
    let part = ModelConfig { rotary_dim: 12, ..config() };
    for (heads, config) in [(1, &whole), (3, &whole), (3, &part)] {
        agree("rope", 1e-6, |device| {
            let (batch, seq, width) = (2, 21, heads * config.head_dim);
            let tables = RopeTables::new(config, Rotation::Global, 30, device).unwrap();
            let x = tensor(noise(batch * seq * width, 1), [batch * seq, width], device);
            ops::rope(x, 5..5 + seq, &tables)
        });
    }
}

#[test]
fn attention() {
    for (seq, window, softcap) in [
        (1, None, None),
        (5, Some(1), None),
        (64, None, Some(2.0)),
        (150, None, None),
        (150, Some(70), Some(5.0)),
        (150, Some(1000), None),
    ] {
        for (heads, key_value_heads) in [(1, 1), (4, 2), (6, 2)] {
            let head_dim = 16;
            let shape = AttentionShape { seq, heads, key_value_heads, head_dim, window, scale: 0.3, softcap };
            agree(&format!("{shape:?}"), 2e-5, |device| {
                let batch = 2;
                // Times 3, for weights far from uniform.
                let input = |heads: usize, seed| {
                    let values = noise(batch * seq * heads * 16, seed).into_iter().map(|x| 3.0 * x).collect();
                    tensor(values, [batch * seq, heads * 16], device)
                };
                let (k, v) = (input(key_value_heads, 2), input(key_value_heads, 3));
                ops::attention(&input(heads, 1), &k, &v, shape, None)
            });
        }
    }
}

/// Documents in one sequence: the plain version and the kernel agree, and each document's outputs are those it has alone.
#[test]
fn attention_of_packed_documents() {
    let lengths = [70usize, 1, 5, 64, 10];
    let seq = lengths.iter().sum();
    let begins: Vec<usize> =
        lengths.iter().scan(0, |end, n| Some(std::mem::replace(end, *end + n))).collect();
    let documents = Documents::new([&begins[..], &[0, 149]], seq);
    let (heads, key_value_heads, head_dim) = (4, 2, 16);
    for window in [None, Some(8)] {
        let shape =
            AttentionShape { seq, heads, key_value_heads, head_dim, window, scale: 0.25, softcap: None };
        let inputs = |device: &BurnDevice| {
            [(heads, 1), (key_value_heads, 2), (key_value_heads, 3)].map(|(heads, seed)| {
                let values = noise(2 * seq * heads * head_dim, seed).into_iter().map(|x| 3.0 * x).collect();
                tensor(values, [2 * seq, heads * head_dim], device)
            })
        };
        agree("packed documents", 2e-5, |device| {
            let [q, k, v] = inputs(device);
            ops::attention(&q, &k, &v, shape, documents.as_ref())
        });
        let [q, k, v] = inputs(&BurnDevice::flex());
        let packed = ops::attention(&q, &k, &v, shape, documents.as_ref());
        for (begin, length) in begins.iter().zip(lengths) {
            let part = |x: &Tensor<2>| x.clone().narrow(0, *begin, length);
            let alone = AttentionShape { seq: length, ..shape };
            let expected =
                HostView::of(&ops::attention(&part(&q), &part(&k), &part(&v), alone, None)).to_vec();
            let found = HostView::of(&part(&packed)).to_vec();
            assert!(largest_difference(&found, &expected) < 1e-5, "document at {begin}, window {window:?}");
        }
    }
}

/// Attention of the last `seq` of `keys` tokens: kernel and plain version, and the rows the whole sequence gives.
#[test]
fn attention_continued() {
    for (seq, keys, window) in [
        (1, 1, None),
        (1, 90, None),
        (1, 90, Some(1)),
        (1, 90, Some(33)),
        (70, 150, None),
        (70, 150, Some(20)),
        (150, 150, Some(70)),
    ] {
        for (heads, key_value_heads) in [(1, 1), (4, 2), (6, 2)] {
            let (head_dim, scale) = (24, 0.2);
            let softcap = window.map(|window| window as f32 / 10.0);
            let whole =
                AttentionShape { seq: keys, heads, key_value_heads, head_dim, window, scale, softcap };
            let shape = AttentionShape { seq, ..whole };
            let input = |heads: usize, seed, device: &BurnDevice| {
                let values = noise(keys * heads * 24, seed).into_iter().map(|x| 3.0 * x).collect();
                tensor(values, [keys, heads * 24], device)
            };
            let operands = |device: &BurnDevice| {
                (
                    input(heads, 1, device),
                    input(key_value_heads, 2, device),
                    input(key_value_heads, 3, device),
                )
            };
            let what = format!("{shape:?} of {keys}");
            agree(&what, 2e-5, |device| {
                let (q, k, v) = operands(device);
                let mut cache = KeyValueCache::new(key_value_heads, 24, device);
                // In two pieces, after a piece that is taken back.
                cache.append(v.clone(), k.clone());
                cache.truncate(0);
                let first = keys / 3;
                if first > 0 {
                    cache.append(k.clone().narrow(0, 0, first), v.clone().narrow(0, 0, first));
                }
                cache.append(k.clone(), v.clone());
                cache.truncate(first);
                cache.append(k.narrow(0, first, keys - first), v.narrow(0, first, keys - first));
                ops::attention_continued(&q.narrow(0, keys - seq, seq), &cache, shape)
            });
            let device = Device::Cpu.burn().unwrap();
            let (q, k, v) = operands(&device);
            let expected = ops::attention(&q, &k, &v, whole, None).narrow(0, keys - seq, seq);
            let mut cache = KeyValueCache::new(key_value_heads, 24, &device);
            cache.append(k, v);
            let found = ops::attention_continued(&q.narrow(0, keys - seq, seq), &cache, shape);
            let difference = largest_difference(&HostView::of(&found), &HostView::of(&expected));
            assert!(difference <= 2e-5, "{what}: {difference:e}");
        }
    }
}
