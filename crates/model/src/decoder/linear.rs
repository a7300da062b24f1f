//! One linear layer of a block: weight, bias, and what its input is rounded to.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Device as BurnDevice, Tensor};
use slmc_gguf::activation::{ActivationFormat, round_rows};

use crate::arch::{Role, TensorId};
use crate::error::ModelError;
use crate::host;
use crate::ops::{self, Matrix, StoredRows};
use crate::source::{Adapter, WeightSource};

#[derive(Clone, Debug)]
pub(super) struct Linear {
    pub weight: Matrix,
    pub bias: Option<Tensor<1>>,
    pub activation: ActivationFormat,
    pub adapter: Option<LowRank>,
}

/// A block's number, one of its stored matrices, and the layer of which it holds rows.
type Place = (usize, Role, Role);

/// An adapter on a device.
#[derive(Clone, Debug)]
pub(super) struct LowRank {
    pub a: Matrix,
    pub b: Matrix,
    pub scale: f32,
}

impl LowRank {
    /// That of the layer `part` of a stored matrix. One beside a matrix of several layers is shared: each has all of A, and its rows of B.
    fn load(source: &dyn WeightSource, (layer, role, part): Place, device: &BurnDevice) -> Option<Self> {
        let Adapter { a, b, rank, scale } = source.adapter(TensorId::block(layer, role))?;
        let (_, rows) = source.config().part_rows(role).find(|(of, _)| *of == part)?;
        let b = b[rows.start * rank..rows.end * rank].to_vec();
        Some(Self {
            a: Matrix::new(a.clone(), [*rank, a.len() / rank], device),
            b: Matrix::new(b, [rows.len(), *rank], device),
            scale: *scale,
        })
    }

    /// `y` plus scale · B A x.
    fn apply_onto(&self, y: Tensor<2>, x: &Tensor<2>) -> Tensor<2> {
        ops::linear_onto(y, &(ops::linear(x, &self.a, None) * self.scale), &self.b, None)
    }
}

impl Linear {
    /// The layers that a stored matrix holds the rows of, with their biases.
    pub fn load(
        source: &dyn WeightSource,
        layer: usize,
        role: Role,
        device: &BurnDevice,
    ) -> Result<Vec<(Role, Self)>, ModelError> {
        let frozen = device.is_autodiff() && !source.trains(TensorId::block(layer, role));
        if frozen && host::is_cpu(device) {
            return Self::stored(source, layer, role, [device, &device.clone().inner()]);
        }
        Self::in_memory(source, layer, role, device, |values, shape| match frozen {
            true => Matrix::constant(values, shape, device),
            false => Matrix::new(values, shape, device),
        })
    }

    fn in_memory(
        source: &dyn WeightSource,
        layer: usize,
        role: Role,
        device: &BurnDevice,
        matrix: impl Fn(Vec<f32>, [usize; 2]) -> Matrix,
    ) -> Result<Vec<(Role, Self)>, ModelError> {
        let config = source.config();
        let weight = source.load(TensorId::block(layer, role))?;
        let (columns, activation) = (config.shape(role)[1], weight.activation);
        let mut values = weight.values;
        // The last part takes over the memory of what is left.
        let mut parts = Vec::new();
        for (part, rows) in config.part_rows(role).collect::<Vec<_>>().into_iter().rev() {
            let first = rows.start * columns;
            let own = if first == 0 { std::mem::take(&mut values) } else { values.split_off(first) };
            let weight = matrix(own, [rows.len(), columns]);
            parts.push((part, Self::around(weight, activation, source, (layer, role, part), device)?));
        }
        Ok(parts)
    }

    /// A layer of this weight, with its bias and adapter.
    fn around(
        weight: Matrix,
        activation: ActivationFormat,
        source: &dyn WeightSource,
        (layer, role, part): Place,
        device: &BurnDevice,
    ) -> Result<Self, ModelError> {
        let bias = load_bias(source, layer, part, device)?;
        let adapter = LowRank::load(source, (layer, role, part), device);
        Ok(Self { weight, bias, activation, adapter })
    }

    /// Takes its bias, if that is in training, and its adapter anew.
    ///
    /// # Errors
    /// Whatever the source reports.
    pub fn renew(
        &mut self,
        source: &dyn WeightSource,
        (layer, role, part): Place,
        device: &BurnDevice,
    ) -> Result<(), ModelError> {
        if part.bias().is_some_and(|bias| source.trains(TensorId::block(layer, bias))) {
            self.bias = load_bias(source, layer, part, device)?;
        }
        self.adapter = LowRank::load(source, (layer, role, part), device);
        Ok(())
    }

    /// As [`Linear::load`], with the weight left where it is stored if the source and the device allow that.
    pub fn open(
        source: &dyn WeightSource,
        layer: usize,
        role: Role,
        device: &BurnDevice,
    ) -> Result<Vec<(Role, Self)>, ModelError> {
        Self::stored(source, layer, role, [device, device])
    }

    /// Layers whose weights stay where they are stored, if the source and `inner` allow that; biases and adapters are on `device`.
    fn stored(
        source: &dyn WeightSource,
        layer: usize,
        role: Role,
        [device, inner]: [&BurnDevice; 2],
    ) -> Result<Vec<(Role, Self)>, ModelError> {
        let (config, id) = (source.config(), TensorId::block(layer, role));
        let columns = config.shape(role)[1];
        let stored = match host::is_cpu_without_gradients(inner) {
            true => source.stored(id)?,
            false => None,
        };
        let Some(stored) = stored else {
            return Self::in_memory(source, layer, role, device, |values, shape| {
                Matrix::new(values, shape, inner)
            });
        };
        let part = |(part, rows): (Role, Range<usize>)| {
            let shape = [rows.len(), columns];
            let weight = Matrix::stored(rows_of(stored.rows.clone(), rows), shape)?;
            let linear = Self::around(weight, stored.activation, source, (layer, role, part), device)?;
            Ok::<_, ModelError>((part, linear))
        };
        config.part_rows(role).map(part).collect()
    }

    /// The same without wanting gradients.
    pub fn untracked(&self) -> Self {
        Self {
            weight: self.weight.untracked(),
            bias: self.bias.as_ref().map(host::untracked),
            activation: self.activation,
            adapter: self.adapter.as_ref().map(|adapter| LowRank {
                a: adapter.a.untracked(),
                b: adapter.b.untracked(),
                scale: adapter.scale,
            }),
        }
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

/// Some of a matrix's rows, where they are stored.
fn rows_of(stored: Arc<dyn StoredRows>, rows: Range<usize>) -> Arc<dyn StoredRows> {
    if rows.start == 0 { stored } else { Arc::new(RowsFrom { stored, first: rows.start }) }
}

/// The rows of a matrix from number `first` on.
#[derive(Debug)]
struct RowsFrom {
    stored: Arc<dyn StoredRows>,
    first: usize,
}

impl RowsFrom {
    fn there(&self, rows: Range<usize>) -> Range<usize> {
        self.first + rows.start..self.first + rows.end
    }
}

impl StoredRows for RowsFrom {
    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<(), ModelError> {
        self.stored.read(self.there(rows), out)
    }

    fn multiply(&self, rows: Range<usize>, x: &[f32], out: &mut [f32]) -> Result<(), ModelError> {
        self.stored.multiply(self.there(rows), x, out)
    }
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
