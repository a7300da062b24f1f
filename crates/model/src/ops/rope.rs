//! Rotary position embedding: the rotation. The angles are those of [`crate::rope`].

use std::ops::Range;

use burn::tensor::{Device as BurnDevice, Tensor};
use rayon::prelude::*;

use super::gradient::{record, variable};
use crate::config::{ModelConfig, Rotation};
use crate::host::{self, HostView};
use crate::rope::rope_table;

/// Cosines and sines for the positions of a sequence, `[positions, rotary_dim / 2]` each.
#[derive(Clone, Debug)]
pub struct RopeTables {
    cos: Tensor<2>,
    sin: Tensor<2>,
    head_dim: usize,
}

impl RopeTables {
    /// The tables of a model for positions 0 to `positions` − 1; `None` of blocks that do not rotate.
    pub fn new(
        config: &ModelConfig,
        rotation: Rotation,
        positions: usize,
        device: &BurnDevice,
    ) -> Option<Self> {
        let (cos, sin) = rope_table(config, rotation, positions)?;
        let (shape, head_dim) = ([positions, config.rotary_dim / 2], config.head_dim);
        Some(Self { cos: host::tensor(cos, shape, device), sin: host::tensor(sin, shape, device), head_dim })
    }
}

/// Rotates component i of every head with component i + rotary_dim/2 by its position's angle. Components from rotary_dim on stay.
///
/// `x` is `[batch · seq, heads · head_dim]`, the tokens of every sequence at `positions`, as many as `seq`.
pub fn rope(x: Tensor<2>, positions: Range<usize>, tables: &RopeTables) -> Tensor<2> {
    let ([tokens, width], device, seq) = (x.dims(), x.device(), positions.len());
    let (half, head_dim) = (tables.cos.dims()[1], tables.head_dim);
    let heads = width / head_dim;
    if !host::is_cpu(&device) {
        let shape = [tokens / seq, seq, heads, half];
        let table = |t: &Tensor<2>| {
            t.clone().slice([positions.clone(), 0..half]).reshape([1, seq, 1, half]).expand(shape)
        };
        let (cos, sin) = (table(&tables.cos), table(&tables.sin));
        let x = x.reshape([tokens / seq, seq, heads, head_dim]);
        let first = x.clone().narrow(3, 0, half);
        let second = x.clone().narrow(3, half, half);
        let low = first.clone() * cos.clone() - second.clone() * sin.clone();
        let high = second * cos + first * sin;
        let mut parts = vec![low, high];
        if 2 * half < head_dim {
            parts.push(x.narrow(3, 2 * half, head_dim - 2 * half));
        }
        return Tensor::cat(parts, 3).reshape([tokens, width]);
    }
    let (cos, sin) = (HostView::of(&tables.cos), HostView::of(&tables.sin));
    let turn = move |mut values: Vec<f32>, backwards: bool| {
        let places = Places { width, head_dim, half, first: positions.start, seq };
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
    head_dim: usize,
    half: usize,
    first: usize,
    seq: usize,
}

/// The rotation in place, or its transpose, which undoes it up to the square of the tables' factor.
fn rotate(values: &mut [f32], places: Places, (cos, sin): (&[f32], &[f32]), backwards: bool) {
    let Places { width, head_dim, half, first, seq } = places;
    let direction = if backwards { -1.0 } else { 1.0 };
    values.par_chunks_exact_mut(width).with_min_len(16).enumerate().for_each(|(token, row)| {
        let angles = (first + token % seq) * half;
        let (cos, sin) = (&cos[angles..][..half], &sin[angles..][..half]);
        for head in row.chunks_exact_mut(head_dim) {
            let (first, second) = head[..2 * half].split_at_mut(half);
            for (((a, b), &c), &s) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                let s = direction * s;
                (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
            }
        }
    });
}
