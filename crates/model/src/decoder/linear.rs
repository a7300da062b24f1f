//! One linear layer of a block: weight, bias, and what its input is rounded to.

use burn::tensor::{Device as BurnDevice, Tensor};
use slmc_gguf::activation::{ActivationFormat, round_rows};

use crate::arch::{Role, TensorId};
use crate::error::ModelError;
use crate::host;
use crate::ops::{self, Matrix};
use crate::source::{Adapter, WeightSource};

#[derive(Clone, Debug)]
pub(super) struct Linear {
    pub weight: Matrix,
    pub bias: Option<Tensor<1>>,
    pub activation: ActivationFormat,
    pub adapter: Option<LowRank>,
}

/// An adapter on a device.
#[derive(Clone, Debug)]
pub(super) struct LowRank {
    pub a: Matrix,
    pub b: Matrix,
    pub scale: f32,
}

impl LowRank {
    fn load(source: &dyn WeightSource, id: TensorId, device: &BurnDevice) -> Option<Self> {
        let Adapter { a, b, rank, scale } = source.adapter(id)?;
        let [d_in, d_out] = [a, b].map(|matrix| matrix.len() / rank);
        Some(Self {
            a: Matrix::new(a.clone(), [*rank, d_in], device),
            b: Matrix::new(b.clone(), [d_out, *rank], device),
            scale: *scale,
        })
    }

    /// `y` plus scale · B A x.
    fn apply_onto(&self, y: Tensor<2>, x: &Tensor<2>) -> Tensor<2> {
        ops::linear_onto(y, &(ops::linear(x, &self.a, None) * self.scale), &self.b, None)
    }
}

impl Linear {
    pub fn load(
        source: &dyn WeightSource,
        layer: usize,
        role: Role,
        device: &BurnDevice,
    ) -> Result<Self, ModelError> {
        let (shape, id) = (source.config().shape(role), TensorId::block(layer, role));
        let shape = [shape[0], shape[1]];
        let (weight, activation) = match device.is_autodiff() && !source.trains(id) {
            true => frozen_matrix(source, id, shape, device)?,
            false => {
                let weight = source.load(id)?;
                (Matrix::new(weight.values, shape, device), weight.activation)
            }
        };
        let bias = load_bias(source, layer, role, device)?;
        Ok(Self { weight, bias, activation, adapter: LowRank::load(source, id, device) })
    }

    /// Takes what is in training anew; the rest stays as it was loaded.
    ///
    /// # Errors
    /// Whatever the source reports.
    pub fn renew(
        &mut self,
        source: &dyn WeightSource,
        layer: usize,
        role: Role,
        device: &BurnDevice,
    ) -> Result<(), ModelError> {
        let id = TensorId::block(layer, role);
        if source.trains(id) {
            self.weight = Matrix::new(source.load(id)?.values, self.weight.shape(), device);
        }
        if role.bias().is_some_and(|bias| source.trains(TensorId::block(layer, bias))) {
            self.bias = load_bias(source, layer, role, device)?;
        }
        self.adapter = LowRank::load(source, id, device);
        Ok(())
    }

    /// As [`Linear::load`], with the weight left where it is stored if the source and the device allow that.
    pub fn open(
        source: &dyn WeightSource,
        layer: usize,
        role: Role,
        device: &BurnDevice,
    ) -> Result<Self, ModelError> {
        let (shape, id) = (source.config().shape(role), TensorId::block(layer, role));
        let (weight, activation) = open_matrix(source, id, [shape[0], shape[1]], device)?;
        let (bias, adapter) = (load_bias(source, layer, role, device)?, LowRank::load(source, id, device));
        Ok(Self { weight, bias, activation, adapter })
    }

    /// The input as this layer's product reads it.
    pub fn round(&self, x: &Tensor<2>) -> Tensor<2> {
        round(x, self.activation)
    }

    /// The layer's output for an input that [`Linear::round`] gave.
    pub fn apply(&self, x: &Tensor<2>) -> Tensor<2> {
        let y = ops::linear(x, &self.weight, self.bias.as_ref());
        match &self.adapter {
            Some(adapter) => adapter.apply_onto(y, x),
            None => y,
        }
    }

    /// `y` plus the layer's output.
    pub fn apply_onto(&self, y: Tensor<2>, x: &Tensor<2>) -> Tensor<2> {
        let y = ops::linear_onto(y, x, &self.weight, self.bias.as_ref());
        match &self.adapter {
            Some(adapter) => adapter.apply_onto(y, x),
            None => y,
        }
    }
}

/// The outputs of layers that share an input, which is rounded once for each format among them.
pub(super) fn apply_shared<const N: usize>(layers: [&Linear; N], x: &Tensor<2>) -> [Tensor<2>; N] {
    let mut rounded: Vec<(ActivationFormat, Tensor<2>)> = Vec::new();
    layers.map(|layer| {
        let known = rounded.iter().position(|(format, _)| *format == layer.activation);
        let index = known.unwrap_or_else(|| {
            rounded.push((layer.activation, layer.round(x)));
            rounded.len() - 1
        });
        layer.apply(&rounded[index].1)
    })
}

fn load_bias(
    source: &dyn WeightSource,
    layer: usize,
    role: Role,
    device: &BurnDevice,
) -> Result<Option<Tensor<1>>, ModelError> {
    let Some(bias) = role.bias().filter(|&bias| source.config().has(bias)) else { return Ok(None) };
    load_vector(source, TensorId::block(layer, bias), device).map(Some)
}

/// A norm's weights or a bias; on a device with gradients it wants its own if it is in training.
pub(super) fn load_vector(
    source: &dyn WeightSource,
    id: TensorId,
    device: &BurnDevice,
) -> Result<Tensor<1>, ModelError> {
    let values = source.load(id)?.values;
    let shape = [values.len()];
    Ok(match source.trains(id) {
        true => host::parameter(values, shape, device),
        false => host::tensor(values, shape, device),
    })
}

/// A matrix that wants no gradient on a device that has them: on the cpu where it is stored, or packed for its kernels.
fn frozen_matrix(
    source: &dyn WeightSource,
    id: TensorId,
    shape: [usize; 2],
    device: &BurnDevice,
) -> Result<(Matrix, ActivationFormat), ModelError> {
    if host::is_cpu(device) {
        return open_matrix(source, id, shape, &device.clone().inner());
    }
    let weight = source.load(id)?;
    Ok((Matrix::constant(weight.values, shape, device), weight.activation))
}

/// A matrix where it is stored, if the source and the device allow that; else in f32 on the device.
pub(super) fn open_matrix(
    source: &dyn WeightSource,
    id: TensorId,
    shape: [usize; 2],
    device: &BurnDevice,
) -> Result<(Matrix, ActivationFormat), ModelError> {
    if host::is_cpu_without_gradients(device)
        && let Some(stored) = source.stored(id)?
    {
        return Ok((Matrix::stored(stored.rows, shape)?, stored.activation));
    }
    let weight = source.load(id)?;
    Ok((Matrix::new(weight.values, shape, device), weight.activation))
}

/// Rows rounded to a format of activations, as ggml does before it multiplies with quantized weights.
pub(super) fn round(x: &Tensor<2>, format: ActivationFormat) -> Tensor<2> {
    use rayon::prelude::*;
    if format == ActivationFormat::F32 {
        return x.clone();
    }
    let [tokens, width] = x.dims();
    let mut values = host::HostView::of(x).to_vec();
    values.par_chunks_mut(width.max(1) * 16).for_each(|rows| round_rows(format, rows, width));
    host::tensor(values, [tokens, width], &x.device())
}
