//! One block: attention and MLP, each behind its norm and onto the residual stream.

use std::ops::Range;

use burn::tensor::{Device as BurnDevice, Gradients, Tensor};
use slmc_gguf::activation::ActivationFormat;
use slmc_matmul::Precision;

use super::context::{Context, KvPrecision};
use super::linear::{Linear, apply_shared, round};
use super::observer::{LinearInput, LinearObserver, NoObserver, show};
use super::weights::BlockWeights;
use crate::arch::Role;
use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::ops::{self, AttentionShape, KeyValueCache};
use crate::source::WeightSource;

/// The weights of one block, in f32 on a device or where they are stored.
#[derive(Clone, Debug)]
pub struct Block(BlockWeights);

impl Block {
    /// Loads block `layer` and releases the file's pages behind it.
    ///
    /// # Errors
    /// Whatever the source reports of these tensors.
    pub fn load(source: &dyn WeightSource, layer: usize, device: &BurnDevice) -> Result<Self, ModelError> {
        let linear = |role| Linear::load(source, layer, role, device);
        Ok(Self(BlockWeights::with(source, layer, device, linear)?))
    }

    /// Block `layer` for being run many times with few tokens: matrices stay where they are stored, if the source and the
    /// device allow that (see [`crate::ops::StoredRows`]).
    ///
    /// # Errors
    /// As [`Block::load`].
    pub fn open(source: &dyn WeightSource, layer: usize, device: &BurnDevice) -> Result<Self, ModelError> {
        let linear = |role| Linear::open(source, layer, role, device);
        Ok(Self(BlockWeights::with(source, layer, device, linear)?))
    }

    /// Takes what is in training from the source anew; everything else stays as it was loaded.
    ///
    /// # Errors
    /// Whatever the source reports.
    pub fn renew(&mut self, source: &dyn WeightSource) -> Result<(), ModelError> {
        self.0.renew(source)
    }

    /// The same block of a device with gradients, without wanting any: what runs through it is not recorded, and gives the same bits.
    pub fn untracked(&self) -> Self {
        Self(self.0.untracked())
    }

    /// Says what its linear layers' weights and inputs are rounded to in products from now on, whatever weights it gets.
    /// Adapters stay in f32. Only the cpu device has other precisions than that.
    pub fn set_precision(&mut self, precision: Precision) {
        self.0.set_precision(precision);
    }

    /// What that is.
    pub fn precision(&self) -> Precision {
        self.0.precision()
    }

    /// Which block of the model this is.
    pub fn layer(&self) -> usize {
        self.0.layer
    }

    /// The dimensions of its model.
    pub fn config(&self) -> &ModelConfig {
        &self.0.config
    }

    /// Where its weights are.
    pub fn device(&self) -> &BurnDevice {
        &self.0.device
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
        self.mlp(self.onto(Role::Output, hidden, &heads), &mut NoObserver)
    }

    /// A cache for [`Block::forward_continued`], without tokens.
    pub fn cache(&self) -> KeyValueCache {
        let config = &self.0.config;
        KeyValueCache::new(config.num_key_value_heads, config.head_dim, &self.0.device)
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
        Ok(self.onto(Role::Output, hidden, &heads))
    }

    /// The second half of the block: the residual stream with the MLP's output added.
    ///
    /// # Errors
    /// An observer's objection.
    pub fn mlp(&self, hidden: Tensor<3>, observer: &mut dyn LinearObserver) -> Result<Tensor<3>, ModelError> {
        let inner = self.gated(rows(self.mlp_input(&hidden)), observer)?;
        Ok(self.onto(Role::Down, hidden, &inner))
    }

    /// The output of attention's last layer or of the MLP's, through the norm behind it if the family has one, added to the
    /// residual stream `[batch, seq, hidden_size]`; `x` is `[tokens, d_in]`, as [`Block::linear_input`] gives it.
    ///
    /// # Errors
    /// Another role.
    pub fn linear_onto(&self, role: Role, hidden: Tensor<3>, x: &Tensor<2>) -> Result<Tensor<3>, ModelError> {
        match role {
            Role::Output | Role::Down => Ok(self.onto(role, hidden, x)),
            _ => Err(self.0.not_here(role)),
        }
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

    /// The input of attention: the residual stream, through its norm if the family has one. `[batch, seq, hidden_size]` both.
    pub fn attention_input(&self, hidden: &Tensor<3>) -> Tensor<3> {
        self.norm(hidden, Role::InputNorm)
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
        Ok(self.added(Role::Output, &heads).reshape(shape))
    }

    /// The input of the MLP: the residual stream, attention's output added, through its norm if the family has one.
    pub fn mlp_input(&self, hidden: &Tensor<3>) -> Tensor<3> {
        self.norm(hidden, Role::PostNorm)
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
        Ok(self.added(Role::Down, &inner).reshape(shape))
    }

    /// One linear layer by itself: `x` is `[tokens, d_in]`; gives `[tokens, d_out]`.
    ///
    /// # Errors
    /// The role is no linear layer of a block.
    pub fn linear(&self, role: Role, x: &Tensor<2>) -> Result<Tensor<2>, ModelError> {
        let parts = self.0.parts(role)?.into_iter();
        Ok(Tensor::cat(parts.map(|linear| linear.apply(&linear.round(x))).collect(), 1))
    }

    /// A tensor's values in the checkpoint's layout, `[d_out, d_in]` for weights.
    ///
    /// # Errors
    /// The block has no such tensor.
    pub fn weight(&self, role: Role) -> Result<Vec<f32>, ModelError> {
        self.0.values(role)
    }

    /// Takes a tensor's gradient out of those of a backward pass, in the checkpoint's layout: that of a block that was loaded
    /// on a device with gradients. `None` where the pass did not reach the tensor.
    ///
    /// # Errors
    /// The block has no such tensor.
    pub fn gradient(&self, role: Role, gradients: &mut Gradients) -> Result<Option<Vec<f32>>, ModelError> {
        self.0.gradient(role, gradients)
    }

    /// Takes the gradients of the adapter beside a stored matrix, A's and B's, out of those of a backward pass. `None` where there is no adapter
    /// or the pass did not reach it.
    pub fn adapter_gradients(&self, role: Role, gradients: &mut Gradients) -> Option<[Vec<f32>; 2]> {
        self.0.adapter_gradients(role, gradients)
    }

    /// Puts other values in a tensor's place, in the checkpoint's layout. What products round their input to
    /// stays as it is.
    ///
    /// # Errors
    /// The block has no such tensor, or it has another size.
    pub fn set_weight(&mut self, role: Role, values: Vec<f32>) -> Result<(), ModelError> {
        self.0.set(role, values)
    }

    /// Adds to the bias of a linear layer, or gives it one, whatever the configuration says.
    ///
    /// # Errors
    /// The role is no linear layer of a block, or has another number of rows.
    pub fn add_bias(&mut self, role: Role, values: Vec<f32>) -> Result<(), ModelError> {
        self.0.add_bias(role, values)
    }

    /// Says what the inputs of a linear layer are rounded to from now on.
    ///
    /// # Errors
    /// The role is no linear layer of a block.
    pub fn set_activation(&mut self, role: Role, format: ActivationFormat) -> Result<(), ModelError> {
        self.0.set_activation(role, format)
    }

    fn norm(&self, hidden: &Tensor<3>, role: Role) -> Tensor<3> {
        let Some(weight) = self.0.norm(role) else { return hidden.clone() };
        ops::rms_norm(&rows(hidden.clone()), weight, self.0.config.rms_norm_eps).reshape(hidden.dims())
    }

    /// Queries or keys `[tokens, heads · head_dim]` through their norm, if the family has one.
    fn qk_norm(&self, x: Tensor<2>, role: Role) -> Tensor<2> {
        let Some(weight) = self.0.norm(role) else { return x };
        let ([tokens, width], [normed]) = (x.dims(), weight.dims());
        // All heads together, or each by itself.
        let x = x.reshape([tokens * width / normed, normed]);
        ops::rms_norm(&x, weight, self.0.config.rms_norm_eps).reshape([tokens, width])
    }

    /// What a layer adds to the residual stream, `[tokens, hidden_size]`.
    fn added(&self, role: Role, x: &Tensor<2>) -> Tensor<2> {
        let (linear, config) = (self.0.linear(role), &self.0.config);
        let mut y = linear.apply(&linear.round(x));
        if let Some(weight) = role.output_norm().and_then(|norm| self.0.norm(norm)) {
            y = ops::rms_norm(&y, weight, config.rms_norm_eps);
        }
        if config.residual_scale == 1.0 { y } else { y * config.residual_scale as f32 }
    }

    /// The residual stream with that added.
    fn onto(&self, role: Role, hidden: Tensor<3>, x: &Tensor<2>) -> Tensor<3> {
        let (linear, config, shape) = (self.0.linear(role), &self.0.config, hidden.dims());
        if config.adds_plainly(role) && config.residual_scale == 1.0 {
            return linear.apply_onto(rows(hidden), &linear.round(x)).reshape(shape);
        }
        hidden + self.added(role, x).reshape(shape)
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
        let layers = [Role::Query, Role::Key, Role::Value].map(|role| self.0.linear(role));
        let [query, key, value] = apply_shared(layers, &normed);
        drop(normed);
        let (query, key) = (self.qk_norm(query, Role::QueryNorm), self.qk_norm(key, Role::KeyNorm));
        let rotated = |x| match context.rope(self.0.config.rotation[self.0.layer]) {
            Some(tables) => ops::rope(x, positions.clone(), tables),
            None => x,
        };
        let (query, key) = (rotated(query), rotated(key));
        Ok(match context.kv_precision {
            KvPrecision::F32 => [query, key, value],
            KvPrecision::F16 => {
                [query, round(&key, ActivationFormat::F16), round(&value, ActivationFormat::F16)]
            }
        })
    }

    fn attention_shape(&self, seq: usize) -> AttentionShape {
        let config = &self.0.config;
        AttentionShape {
            seq,
            heads: config.num_attention_heads,
            key_value_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            window: config.sliding_window[self.0.layer],
            scale: config.attention_scale as f32,
            softcap: config.attention_softcap.map(|cap| cap as f32),
        }
    }

    /// act(gate) · up, `[tokens, intermediate_size]`, from the normed stream `[tokens, hidden]`.
    fn gated(&self, normed: Tensor<2>, observer: &mut dyn LinearObserver) -> Result<Tensor<2>, ModelError> {
        show(observer, LinearInput::Mlp, &normed)?;
        let [gate, up] = [Role::Gate, Role::Up].map(|role| self.0.linear(role));
        let x_gate = gate.round(&normed);
        let x_up = if up.activation == gate.activation { x_gate.clone() } else { up.round(&normed) };
        let activation = self.0.config.activation;
        let inner = match gate.adapter.is_some() || up.adapter.is_some() {
            true => ops::activated_times(&gate.apply(&x_gate), &up.apply(&x_up), activation),
            false => ops::gated(
                &x_gate,
                &x_up,
                (&gate.weight, gate.bias.as_ref()),
                (&up.weight, up.bias.as_ref()),
                activation,
            ),
        };
        show(observer, LinearInput::Down, &inner)?;
        Ok(inner)
    }
}

/// `[batch, seq, width]` as `[batch · seq, width]`.
fn rows(x: Tensor<3>) -> Tensor<2> {
    let [batch, seq, width] = x.dims();
    x.reshape([batch * seq, width])
}
