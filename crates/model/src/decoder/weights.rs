//! The weights of one block: its linear layers and norms, reached by what the file stores.

use std::collections::BTreeMap;

use burn::tensor::{Device as BurnDevice, Gradients, Tensor};
use slmc_gguf::activation::ActivationFormat;
use slmc_matmul::Precision;

use super::linear::{Linear, load_vector};
use crate::arch::{Role, TensorId};
use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::host::{self, HostView};
use crate::ops::Matrix;
use crate::source::WeightSource;

/// Linear layers one by one, however they are stored: a fused matrix is several of them here, and one outside.
#[derive(Clone, Debug)]
pub(super) struct BlockWeights {
    pub layer: usize,
    pub device: BurnDevice,
    pub config: ModelConfig,
    precision: Precision,
    linears: BTreeMap<Role, Linear>,
    norms: BTreeMap<Role, Tensor<1>>,
}

impl BlockWeights {
    /// Those of block `layer`; `linear` gives the layers of a stored matrix.
    pub fn with(
        source: &dyn WeightSource,
        layer: usize,
        device: &BurnDevice,
        linear: impl Fn(Role) -> Result<Vec<(Role, Linear)>, ModelError>,
    ) -> Result<Self, ModelError> {
        let config = source.config().clone();
        let (mut linears, mut norms) = (BTreeMap::new(), BTreeMap::new());
        for role in Role::ALL.into_iter().filter(|&role| role.is_per_layer() && config.has(role)) {
            if role.is_norm() {
                norms.insert(role, load_vector(source, TensorId::block(layer, role), device)?);
            } else if !role.parts().is_empty() {
                linears.extend(linear(role)?);
            }
        }
        Ok(Self { layer, device: device.clone(), config, precision: Precision::F32, linears, norms })
    }

    /// Takes what is in training from the source anew; everything else stays as it was loaded.
    pub fn renew(&mut self, source: &dyn WeightSource) -> Result<(), ModelError> {
        let (layer, device) = (self.layer, self.device.clone());
        for role in Role::ALL.into_iter().filter(|&role| role.is_per_layer() && self.config.has(role)) {
            let id = TensorId::block(layer, role);
            match source.trains(id) {
                true if role.is_norm() => {
                    self.norms.insert(role, load_vector(source, id, &device)?);
                }
                true if !role.parts().is_empty() => {
                    self.linears.extend(Linear::load(source, layer, role, &device)?);
                }
                _ => {
                    for &part in role.parts() {
                        if let Some(linear) = self.linears.get_mut(&part) {
                            linear.renew(source, (layer, role, part), &device)?;
                        }
                    }
                }
            }
        }
        self.set_precision(self.precision);
        Ok(())
    }

    /// What weights and inputs are rounded to in products.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Says what weights and inputs are rounded to in products from now on.
    pub fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
        self.linears.values_mut().for_each(|linear| linear.weight.set_precision(precision));
    }

    /// The same without wanting gradients.
    pub fn untracked(&self) -> Self {
        let linears = self.linears.iter().map(|(&role, linear)| (role, linear.untracked()));
        let norms = self.norms.iter().map(|(&role, norm)| (role, host::untracked(norm)));
        Self {
            layer: self.layer,
            device: self.device.clone(),
            config: self.config.clone(),
            precision: self.precision,
            linears: linears.collect(),
            norms: norms.collect(),
        }
    }

    /// Takes the gradients of the adapter beside a stored matrix, A's and B's, out of those of a backward pass. The layers of a matrix of
    /// several share A, and each has its rows of B.
    pub fn adapter_gradients(&self, role: Role, gradients: &mut Gradients) -> Option<[Vec<f32>; 2]> {
        let (mut a, mut b): (Vec<f32>, _) = (Vec::new(), Vec::new());
        for linear in self.parts(role).ok()? {
            let adapter = linear.adapter.as_ref()?;
            let [of_a, of_b] = [&adapter.a, &adapter.b].map(|matrix| matrix.tensor()?.grad_remove(gradients));
            let of_a = host::into_vec(of_a?);
            match a.is_empty() {
                true => a = of_a,
                false => a.iter_mut().zip(of_a).for_each(|(sum, more)| *sum += more),
            }
            b.extend(host::into_vec(of_b?));
        }
        Some([a, b])
    }

    /// Adds to the bias of a layer, or gives it one, whatever the configuration says.
    pub fn add_bias(&mut self, part: Role, values: Vec<f32>) -> Result<(), ModelError> {
        let error = self.not_here(part);
        let Some(linear) = self.linears.get_mut(&part) else { return Err(error) };
        let expected = linear.weight.shape()[0];
        if values.len() != expected {
            let place = format!("bias of {}", TensorId::block(self.layer, part));
            return Err(ModelError::Length { place, expected, found: values.len() });
        }
        let more = host::parameter(values, [expected], &self.device);
        linear.bias = Some(match linear.bias.take() {
            Some(bias) => bias + more,
            None => more,
        });
        Ok(())
    }

    /// A linear layer, which every block has: not a fused matrix.
    pub fn linear(&self, part: Role) -> &Linear {
        self.linears.get(&part).unwrap_or_else(|| unreachable!("every block has {part:?}"))
    }

    /// The weight of a norm, if the family has it.
    pub fn norm(&self, role: Role) -> Option<&Tensor<1>> {
        self.norms.get(&role)
    }

    /// The linear layers that a stored matrix holds the rows of.
    ///
    /// # Errors
    /// The role is no linear layer of a block.
    pub fn parts(&self, role: Role) -> Result<Vec<&Linear>, ModelError> {
        let parts: Option<Vec<_>> = role.parts().iter().map(|part| self.linears.get(part)).collect();
        parts.filter(|parts| !parts.is_empty()).ok_or_else(|| self.not_here(role))
    }

    /// A tensor's values in the checkpoint's layout, `[d_out, d_in]` for weights.
    pub fn values(&self, role: Role) -> Result<Vec<f32>, ModelError> {
        match self.vector(role) {
            Some(vector) => Ok(HostView::of(vector).to_vec()),
            None => {
                let mut parts = self.parts(role)?.into_iter().map(|linear| linear.weight.values());
                let mut values = parts.next().unwrap_or_default();
                parts.for_each(|part| values.extend_from_slice(&part));
                Ok(values)
            }
        }
    }

    /// Takes a tensor's gradient out of those of a backward pass; `None` where the pass did not reach the tensor.
    pub fn gradient(&self, role: Role, gradients: &mut Gradients) -> Result<Option<Vec<f32>>, ModelError> {
        if let Some(vector) = self.vector(role) {
            return Ok(vector.grad_remove(gradients).map(host::into_vec));
        }
        let mut whole = Vec::new();
        for linear in self.parts(role)? {
            let gradient = linear.weight.tensor().and_then(|weight| weight.grad_remove(gradients));
            match gradient.map(host::into_vec) {
                Some(gradient) if whole.is_empty() => whole = gradient,
                Some(gradient) => whole.extend_from_slice(&gradient),
                None => return Ok(None),
            }
        }
        Ok(Some(whole))
    }

    /// Puts other values in a tensor's place, in the checkpoint's layout.
    pub fn set(&mut self, role: Role, mut values: Vec<f32>) -> Result<(), ModelError> {
        let shape = self.config.shape(role);
        let expected: usize = shape.iter().product();
        if values.len() != expected || !role.is_per_layer() || !self.config.has(role) {
            let place = format!("{} to set", TensorId::block(self.layer, role));
            return Err(ModelError::Length { place, expected, found: values.len() });
        }
        let device = self.device.clone();
        if role.is_norm() {
            self.norms.insert(role, host::parameter(values, [expected], &device));
            return Ok(());
        }
        if let Some(linear) = biased(role) {
            let linear = self
                .linears
                .get_mut(&linear)
                .ok_or(ModelError::NoSuchTensor { id: TensorId::block(self.layer, role) })?;
            linear.bias = Some(host::parameter(values, [expected], &device));
            return Ok(());
        }
        for (part, rows) in self.config.part_rows(role).collect::<Vec<_>>().into_iter().rev() {
            let first = rows.start * shape[1];
            let own = if first == 0 { std::mem::take(&mut values) } else { values.split_off(first) };
            if let Some(linear) = self.linears.get_mut(&part) {
                linear.weight = Matrix::new(own, [rows.len(), shape[1]], &device);
                linear.weight.set_precision(self.precision);
            }
        }
        Ok(())
    }

    /// Says what the inputs of a linear layer are rounded to from now on.
    pub fn set_activation(&mut self, role: Role, format: ActivationFormat) -> Result<(), ModelError> {
        self.parts(role)?;
        for part in role.parts() {
            if let Some(linear) = self.linears.get_mut(part) {
                linear.activation = format;
            }
        }
        Ok(())
    }

    /// The vector of a norm or a bias.
    fn vector(&self, role: Role) -> Option<&Tensor<1>> {
        match biased(role) {
            Some(linear) => self.linears.get(&linear)?.bias.as_ref(),
            None => self.norms.get(&role),
        }
    }

    pub fn not_here(&self, role: Role) -> ModelError {
        ModelError::NoSuchTensor { id: TensorId::block(self.layer, role) }
    }
}

/// The layer that a bias belongs to.
fn biased(role: Role) -> Option<Role> {
    Role::LINEAR.into_iter().find(|linear| linear.bias() == Some(role))
}
