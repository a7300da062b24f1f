//! One block: attention and MLP, each behind its norm and onto the residual stream.

use std::ops::Range;

use burn::tensor::{Device as BurnDevice, Gradients, Tensor};
use slmc_gguf::activation::ActivationFormat;

use super::context::{Context, KvPrecision};
use super::linear::{Linear, apply_shared, load_vector, round};
use super::observer::{LinearInput, LinearObserver, NoObserver, show};
use crate::arch::{Activation, Role, TensorId};
use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::host::{self, HostView};
use crate::ops::{self, AttentionShape, KeyValueCache, Matrix};
use crate::source::WeightSource;

/// The weights of one block, in f32 on a device or where they are stored.
#[derive(Clone, Debug)]
pub struct Block {
    layer: usize,
    device: BurnDevice,
    config: ModelConfig,
    input_norm: Tensor<1>,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    post_norm: Tensor<1>,
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl Block {
    /// Loads block `layer` and releases the file's pages behind it.
    ///
    /// # Errors
    /// Whatever the source reports of these tensors.
    pub fn load(source: &dyn WeightSource, layer: usize, device: &BurnDevice) -> Result<Self, ModelError> {
        Self::with(source, layer, device, |role| Linear::load(source, layer, role, device))
    }

    /// Block `layer` for being run many times with few tokens: matrices stay where they are stored, if the source and the
    /// device allow that (see [`crate::ops::StoredRows`]).
    ///
    /// # Errors
    /// As [`Block::load`].
    pub fn open(source: &dyn WeightSource, layer: usize, device: &BurnDevice) -> Result<Self, ModelError> {
        Self::with(source, layer, device, |role| Linear::open(source, layer, role, device))
    }

    fn with(
        source: &dyn WeightSource,
        layer: usize,
        device: &BurnDevice,
        linear: impl Fn(Role) -> Result<Linear, ModelError>,
    ) -> Result<Self, ModelError> {
        let config = source.config().clone();
        let norm = |role| load_vector(source, TensorId::block(layer, role), device);
        Ok(Self {
            layer,
            device: device.clone(),
            input_norm: norm(Role::InputNorm)?,
            query: linear(Role::Query)?,
            key: linear(Role::Key)?,
            value: linear(Role::Value)?,
            output: linear(Role::Output)?,
            post_norm: norm(Role::PostNorm)?,
            gate: linear(Role::Gate)?,
            up: linear(Role::Up)?,
            down: linear(Role::Down)?,
            config,
        })
    }

    /// Takes what is in training from the source anew; everything else stays as it was loaded.
    ///
    /// # Errors
    /// Whatever the source reports.
    pub fn renew(&mut self, source: &dyn WeightSource) -> Result<(), ModelError> {
        let (layer, device) = (self.layer, self.device.clone());
        for (role, norm) in [(Role::InputNorm, &mut self.input_norm), (Role::PostNorm, &mut self.post_norm)] {
            let id = TensorId::block(layer, role);
            if source.trains(id) {
                *norm = load_vector(source, id, &device)?;
            }
        }
        Role::LINEAR.into_iter().try_for_each(|role| match self.linear_mut(role) {
            Some(linear) => linear.renew(source, layer, role, &device),
            None => Ok(()),
        })
    }

    /// Which block of the model this is.
    pub fn layer(&self) -> usize {
        self.layer
    }

    /// Where its weights are.
    pub fn device(&self) -> &BurnDevice {
        &self.device
    }

    /// The whole block: `hidden` is `[batch, seq, hidden_size]`, and so is what it gives.
    ///
    /// # Errors
    /// A sequence longer than the context; an observer's objection.
    pub fn forward(
        &self,
        hidden: Tensor<3>,
        context: &Context,
        observer: &mut dyn LinearObserver,
    ) -> Result<Tensor<3>, ModelError> {
        let hidden = self.attention(hidden, context, observer)?;
        self.mlp(hidden, observer)
    }

    /// Shows an observer the inputs of all linear layers, as [`Block::forward`] does, and leaves out what only the block's output needs.
    ///
    /// # Errors
    /// As [`Block::forward`].
    pub fn observe(
        &self,
        hidden: Tensor<3>,
        context: &Context,
        observer: &mut dyn LinearObserver,
    ) -> Result<(), ModelError> {
        let hidden = self.attention(hidden, context, observer)?;
        self.gated(rows(self.mlp_input(&hidden)), observer).map(drop)
    }

    /// The whole block for the next tokens of a sequence, whose keys and values it adds to the cache: `hidden` is
    /// `[1, seq, hidden_size]`, and so is what it gives.
    ///
    /// # Errors
    /// A sequence that becomes longer than the context.
    pub fn forward_continued(
        &self,
        hidden: Tensor<3>,
        context: &Context,
        cache: &mut KeyValueCache,
    ) -> Result<Tensor<3>, ModelError> {
        let (seq, first) = (hidden.dims()[1], cache.len());
        let normed = rows(self.attention_input(&hidden));
        let [query, key, value] = self.attention_operands(normed, first..first + seq, context)?;
        cache.append(key, value);
        let heads = ops::attention_continued(&query, cache, self.attention_shape(seq));
        self.mlp(onto(&self.output, hidden, &heads), &mut NoObserver)
    }

    /// A cache for [`Block::forward_continued`], without tokens.
    pub fn cache(&self) -> KeyValueCache {
        KeyValueCache::new(self.config.num_key_value_heads, self.config.head_dim, &self.device)
    }

    /// The first half of the block: the residual stream with attention's output added.
    ///
    /// # Errors
    /// As [`Block::forward`].
    pub fn attention(
        &self,
        hidden: Tensor<3>,
        context: &Context,
        observer: &mut dyn LinearObserver,
    ) -> Result<Tensor<3>, ModelError> {
        let normed = self.attention_input(&hidden);
        let heads = self.heads(rows(normed), hidden.dims()[1], context, observer)?;
        Ok(onto(&self.output, hidden, &heads))
    }

    /// The second half of the block: the residual stream with the MLP's output added.
    ///
    /// # Errors
    /// An observer's objection.
    pub fn mlp(&self, hidden: Tensor<3>, observer: &mut dyn LinearObserver) -> Result<Tensor<3>, ModelError> {
        let inner = self.gated(rows(self.mlp_input(&hidden)), observer)?;
        Ok(onto(&self.down, hidden, &inner))
    }

    /// One linear layer's output added to the residual stream `[batch, seq, hidden_size]`; `x` is `[tokens, d_in]`, as
    /// [`Block::linear_input`] gives it.
    ///
    /// # Errors
    /// The role is no linear layer of a block.
    pub fn linear_onto(&self, role: Role, hidden: Tensor<3>, x: &Tensor<2>) -> Result<Tensor<3>, ModelError> {
        Ok(onto(self.linear_of(role).ok_or_else(|| self.not_here(role))?, hidden, x))
    }

    /// What the layers behind `input` are fed with, `[tokens, d_in]`, before any rounding of activations. `hidden` is the
    /// residual stream in front of the half of the block that they are in.
    ///
    /// # Errors
    /// A sequence longer than the context.
    pub fn linear_input(
        &self,
        input: LinearInput,
        hidden: &Tensor<3>,
        context: &Context,
    ) -> Result<Tensor<2>, ModelError> {
        Ok(match input {
            LinearInput::Attention => rows(self.attention_input(hidden)),
            LinearInput::Output => {
                self.heads(rows(self.attention_input(hidden)), hidden.dims()[1], context, &mut NoObserver)?
            }
            LinearInput::Mlp => rows(self.mlp_input(hidden)),
            LinearInput::Down => self.gated(rows(self.mlp_input(hidden)), &mut NoObserver)?,
        })
    }

    /// The input of attention: the residual stream through its norm. `[batch, seq, hidden_size]` both.
    pub fn attention_input(&self, hidden: &Tensor<3>) -> Tensor<3> {
        self.norm(hidden, &self.input_norm)
    }

    /// What attention adds to the residual stream: `normed` is what [`Block::attention_input`] gives.
    ///
    /// # Errors
    /// As [`Block::forward`].
    pub fn attention_output(
        &self,
        normed: Tensor<3>,
        context: &Context,
        observer: &mut dyn LinearObserver,
    ) -> Result<Tensor<3>, ModelError> {
        let shape = normed.dims();
        let heads = self.heads(rows(normed), shape[1], context, observer)?;
        Ok(self.output.apply(&self.output.round(&heads)).reshape(shape))
    }

    /// The input of the MLP: the residual stream, attention's output added, through its norm.
    pub fn mlp_input(&self, hidden: &Tensor<3>) -> Tensor<3> {
        self.norm(hidden, &self.post_norm)
    }

    /// What the MLP adds to the residual stream: `normed` is what [`Block::mlp_input`] gives.
    ///
    /// # Errors
    /// An observer's objection.
    pub fn mlp_output(
        &self,
        normed: Tensor<3>,
        observer: &mut dyn LinearObserver,
    ) -> Result<Tensor<3>, ModelError> {
        let shape = normed.dims();
        let inner = self.gated(rows(normed), observer)?;
        Ok(self.down.apply(&self.down.round(&inner)).reshape(shape))
    }

    /// One linear layer by itself: `x` is `[tokens, d_in]`; gives `[tokens, d_out]`.
    ///
    /// # Errors
    /// The role is no linear layer of a block.
    pub fn linear(&self, role: Role, x: &Tensor<2>) -> Result<Tensor<2>, ModelError> {
        let linear = self.linear_of(role).ok_or_else(|| self.not_here(role))?;
        Ok(linear.apply(&linear.round(x)))
    }

    /// A tensor's values in the checkpoint's layout, `[d_out, d_in]` for weights.
    ///
    /// # Errors
    /// The block has no such tensor.
    pub fn weight(&self, role: Role) -> Result<Vec<f32>, ModelError> {
        if let Some(linear) = self.linear_of(role) {
            return Ok(linear.weight.values());
        }
        self.vector_of(role).map(|vector| HostView::of(vector).to_vec()).ok_or_else(|| self.not_here(role))
    }

    /// Takes a tensor's gradient out of those of a backward pass, in the checkpoint's layout: that of a block that was loaded
    /// on a device with gradients. `None` where the pass did not reach the tensor.
    ///
    /// # Errors
    /// The block has no such tensor.
    pub fn gradient(&self, role: Role, gradients: &mut Gradients) -> Result<Option<Vec<f32>>, ModelError> {
        if let Some(linear) = self.linear_of(role) {
            let weight = linear.weight.tensor();
            return Ok(weight.and_then(|weight| weight.grad_remove(gradients)).map(host::into_vec));
        }
        let vector = self.vector_of(role).ok_or_else(|| self.not_here(role))?;
        Ok(vector.grad_remove(gradients).map(host::into_vec))
    }

    /// Takes the gradients of a linear layer's adapter, A's and B's, out of those of a backward pass. `None` where there is no adapter
    /// or the pass did not reach it.
    pub fn adapter_gradients(&self, role: Role, gradients: &mut Gradients) -> Option<[Vec<f32>; 2]> {
        let adapter = self.linear_of(role)?.adapter.as_ref()?;
        let [a, b] = [&adapter.a, &adapter.b].map(|matrix| matrix.tensor()?.grad_remove(gradients));
        Some([host::into_vec(a?), host::into_vec(b?)])
    }

    /// Puts other values in a tensor's place, in the checkpoint's layout. What products round their input to
    /// stays as it is.
    ///
    /// # Errors
    /// The block has no such tensor, or it has another size.
    pub fn set_weight(&mut self, role: Role, values: Vec<f32>) -> Result<(), ModelError> {
        let shape = self.config.shape(role);
        let expected: usize = shape.iter().product();
        if values.len() != expected || !role.is_per_layer() || !self.config.has(role) {
            let place = format!("{} to set", TensorId::block(self.layer, role));
            return Err(ModelError::Length { place, expected, found: values.len() });
        }
        let device = self.device.clone();
        let vector = |values| host::parameter(values, [expected], &device);
        match role {
            Role::InputNorm => self.input_norm = vector(values),
            Role::PostNorm => self.post_norm = vector(values),
            role => {
                let bias_of = Role::LINEAR.into_iter().find(|linear| linear.bias() == Some(role));
                match self.linear_mut(bias_of.unwrap_or(role)) {
                    Some(linear) if bias_of.is_some() => linear.bias = Some(vector(values)),
                    Some(linear) => linear.weight = Matrix::new(values, [shape[0], shape[1]], &device),
                    None => return Err(self.not_here(role)),
                }
            }
        }
        Ok(())
    }

    /// Says what the inputs of a linear layer are rounded to from now on.
    ///
    /// # Errors
    /// The role is no linear layer of a block.
    pub fn set_activation(&mut self, role: Role, format: ActivationFormat) -> Result<(), ModelError> {
        match self.linear_mut(role) {
            Some(linear) => linear.activation = format,
            None => return Err(self.not_here(role)),
        }
        Ok(())
    }

    fn not_here(&self, role: Role) -> ModelError {
        ModelError::NoSuchTensor { id: TensorId::block(self.layer, role) }
    }

    fn vector_of(&self, role: Role) -> Option<&Tensor<1>> {
        match role {
            Role::InputNorm => Some(&self.input_norm),
            Role::PostNorm => Some(&self.post_norm),
            _ => {
                let linear = Role::LINEAR.into_iter().find(|linear| linear.bias() == Some(role))?;
                self.linear_of(linear)?.bias.as_ref()
            }
        }
    }

    fn linear_of(&self, role: Role) -> Option<&Linear> {
        Some(match role {
            Role::Query => &self.query,
            Role::Key => &self.key,
            Role::Value => &self.value,
            Role::Output => &self.output,
            Role::Gate => &self.gate,
            Role::Up => &self.up,
            Role::Down => &self.down,
            _ => return None,
        })
    }

    fn linear_mut(&mut self, role: Role) -> Option<&mut Linear> {
        Some(match role {
            Role::Query => &mut self.query,
            Role::Key => &mut self.key,
            Role::Value => &mut self.value,
            Role::Output => &mut self.output,
            Role::Gate => &mut self.gate,
            Role::Up => &mut self.up,
            Role::Down => &mut self.down,
            _ => return None,
        })
    }

    fn norm(&self, hidden: &Tensor<3>, weight: &Tensor<1>) -> Tensor<3> {
        ops::rms_norm(&rows(hidden.clone()), weight, self.config.rms_norm_eps).reshape(hidden.dims())
    }

    /// The heads' outputs, `[tokens, num_attention_heads · head_dim]`, from the normed stream `[tokens, hidden]`.
    fn heads(
        &self,
        normed: Tensor<2>,
        seq: usize,
        context: &Context,
        observer: &mut dyn LinearObserver,
    ) -> Result<Tensor<2>, ModelError> {
        show(observer, LinearInput::Attention, &normed)?;
        let [query, key, value] = self.attention_operands(normed, 0..seq, context)?;
        let (shape, documents) = (self.attention_shape(seq), context.documents.as_ref());
        let heads = ops::attention(&query, &key, &value, shape, documents);
        show(observer, LinearInput::Output, &heads)?;
        Ok(heads)
    }

    /// Query, key and value of tokens at these positions of their sequences, as attention reads them.
    fn attention_operands(
        &self,
        normed: Tensor<2>,
        positions: Range<usize>,
        context: &Context,
    ) -> Result<[Tensor<2>; 3], ModelError> {
        if positions.end > context.positions {
            return Err(ModelError::SequenceLength { expected: context.positions, found: positions.end });
        }
        let [query, key, value] = apply_shared([&self.query, &self.key, &self.value], &normed);
        drop(normed);
        let rotated = |x| ops::rope(x, positions.clone(), &context.rope);
        let (query, key) = (rotated(query), rotated(key));
        Ok(match context.kv_precision {
            KvPrecision::F32 => [query, key, value],
            KvPrecision::F16 => {
                [query, round(&key, ActivationFormat::F16), round(&value, ActivationFormat::F16)]
            }
        })
    }

    fn attention_shape(&self, seq: usize) -> AttentionShape {
        AttentionShape {
            seq,
            heads: self.config.num_attention_heads,
            key_value_heads: self.config.num_key_value_heads,
            head_dim: self.config.head_dim,
            window: self.config.sliding_window[self.layer],
        }
    }

    /// act(gate) · up, `[tokens, intermediate_size]`, from the normed stream `[tokens, hidden]`.
    fn gated(&self, normed: Tensor<2>, observer: &mut dyn LinearObserver) -> Result<Tensor<2>, ModelError> {
        show(observer, LinearInput::Mlp, &normed)?;
        let x_gate = self.gate.round(&normed);
        let x_up =
            if self.up.activation == self.gate.activation { x_gate.clone() } else { self.up.round(&normed) };
        let Activation::Silu = self.config.activation;
        let (gate, up) = (&self.gate, &self.up);
        let inner = match gate.adapter.is_some() || up.adapter.is_some() {
            true => ops::silu_times(&gate.apply(&x_gate), &up.apply(&x_up)),
            false => {
                ops::gated(&x_gate, &x_up, (&gate.weight, gate.bias.as_ref()), (&up.weight, up.bias.as_ref()))
            }
        };
        show(observer, LinearInput::Down, &inner)?;
        Ok(inner)
    }
}

/// The residual stream with a layer's output added.
fn onto(layer: &Linear, hidden: Tensor<3>, x: &Tensor<2>) -> Tensor<3> {
    let shape = hidden.dims();
    layer.apply_onto(rows(hidden), &layer.round(x)).reshape(shape)
}

/// `[batch, seq, width]` as `[batch · seq, width]`.
fn rows(x: Tensor<3>) -> Tensor<2> {
    let [batch, seq, width] = x.dims();
    x.reshape([batch * seq, width])
}
