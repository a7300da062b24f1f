//! Rotary position embedding: the rotation. The angles are those of [`crate::rope`].

use std::ops::Range;

use burn::tensor::{Device as BurnDevice, Tensor};
use rayon::prelude::*;

use super::gradient::{record, variable};
use crate::config::ModelConfig;
use crate::host::{self, HostView};
use crate::rope::rope_table;

/// Cosines and sines for the positions of a sequence, `[positions, head_dim / 2]` each.
#[derive(Clone, Debug)]
pub struct RopeTables {
    cos: Tensor<2>,
    sin: Tensor<2>,
}

impl RopeTables {
    /// The tables of a model for positions 0 to `positions` − 1.
    pub fn new(config: &ModelConfig, positions: usize, device: &BurnDevice) -> Self {
        let (cos, sin) = rope_table(config, positions);
        let shape = [positions, config.head_dim / 2];
        Self { cos: host::tensor(cos, shape, device), sin: host::tensor(sin, shape, device) }
    }
}

/// Rotates component i of every head with component i + head_dim/2 by its position's angle.
///
/// `x` is `[batch · seq, heads · head_dim]`, the tokens of every sequence at `positions`, as many as `seq`.
pub fn rope(x: Tensor<2>, positions: Range<usize>, tables: &RopeTables) -> Tensor<2> {
    let ([tokens, width], device, seq) = (x.dims(), x.device(), positions.len());
    let half = tables.cos.dims()[1];
    let heads = width / (2 * half);
    if !host::is_cpu(&device) {
        let shape = [tokens / seq, seq, heads, half];
        let table = |t: &Tensor<2>| {
            t.clone().slice([positions.clone(), 0..half]).reshape([1, seq, 1, half]).expand(shape)
        };
        let (cos, sin) = (table(&tables.cos), table(&tables.sin));
        let x = x.reshape([tokens / seq, seq, heads, 2 * half]);
        let first = x.clone().narrow(3, 0, half);
        let second = x.narrow(3, half, half);
        let low = first.clone() * cos.clone() - second.clone() * sin.clone();
        let high = second * cos + first * sin;
        return Tensor::cat(vec![low, high], 3).reshape([tokens, width]);
    }
    let (cos, sin) = (HostView::of(&tables.cos), HostView::of(&tables.sin));
    let turn = move |mut values: Vec<f32>, backwards: bool| {
        let places = Places { width, half, first: positions.start, seq };
        rotate(&mut values, places, (&cos, &sin), backwards);
        values
    };
    if !device.is_autodiff() {
        return host::tensor(turn(host::into_vec(x), false), [tokens, width], &device);
    }
    let input = variable(&x);
    let y = turn(host::into_vec(x), false);
    record([input], y, [tokens, width], move |dy, _| [Some(turn(dy.to_vec(), true))])
}

/// How tokens lie in `[tokens, width]`: sequences of `seq`, whose first is at position `first`.
#[derive(Clone, Copy)]
struct Places {
    width: usize,
    half: usize,
    first: usize,
    seq: usize,
}

/// The rotation in place, or its inverse, which is its transpose.
fn rotate(values: &mut [f32], places: Places, (cos, sin): (&[f32], &[f32]), backwards: bool) {
    let Places { width, half, first, seq } = places;
    let direction = if backwards { -1.0 } else { 1.0 };
    values.par_chunks_exact_mut(width).with_min_len(16).enumerate().for_each(|(token, row)| {
        let angles = (first + token % seq) * half;
        let (cos, sin) = (&cos[angles..][..half], &sin[angles..][..half]);
        for head in row.chunks_exact_mut(2 * half) {
            let (first, second) = head.split_at_mut(half);
            for (((a, b), &c), &s) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                let s = direction * s;
                (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
            }
        }
    });
}
