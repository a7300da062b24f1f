//! The model that learns: a forward pass, and back.

use std::ops::Range;

use slmc_matmul::Precision;
use slmc_model::{
    Block, BurnDevice, Context, Gradients, Head, HostView, KvPrecision, MemorySource, ModelError, NoObserver,
    Role, Tensor, TensorId, WeightSource, embed, host,
};

use crate::batch::Batch;
use crate::gradients::WeightGradients;
use crate::head::{HeadInput, HeadLoss, LossSums};
use crate::hidden::HiddenTargets;
use crate::parameter::Parameter;
use crate::teacher::Teaching;

/// Runs a model that is in training. What is trained of it stands in a [`MemorySource`] that is given for every pass.
pub struct Student {
    context: Context,
    device: BurnDevice,
    /// Blocks and head of a student of which a part is trained: the rest is loaded once.
    kept: Option<Kept>,
    /// The layers whose intermediate values are kept together.
    segments: Vec<Range<usize>>,
    precision: Precision,
}

struct Kept {
    blocks: Vec<Block>,
    head: Vec<f32>,
}

impl Student {
    /// For sequences of up to `positions` tokens; `device` is one with gradients, or becomes it. With `checkpointing` only the inputs of
    /// blocks are kept in the forward pass, and each block is run a second time in the backward pass (Chen et al. 2016,
    /// arXiv:1604.06174, section 4.1): the same gradients, bit for bit.
    ///
    /// # Errors
    /// Whatever the weights' base reports.
    pub fn new(
        weights: &MemorySource,
        positions: usize,
        device: &BurnDevice,
        checkpointing: bool,
    ) -> Result<Self, ModelError> {
        let (device, config) = (device.clone().autodiff(), weights.config());
        let layers = 0..config.num_hidden_layers;
        // Under other scales every tensor is another.
        let kept = match weights.has_base() && weights.scales().next().is_none() {
            true => Some(Kept {
                blocks: layers
                    .clone()
                    .map(|layer| Block::load(weights, layer, &device))
                    .collect::<Result<_, _>>()?,
                head: if weights.trains(config.head()) {
                    Vec::new()
                } else {
                    weights.load(config.head())?.values
                },
            }),
            false => None,
        };
        Ok(Self {
            context: Context::new(config, positions, &device, KvPrecision::F32),
            device,
            kept,
            segments: match checkpointing {
                true => layers.map(|layer| layer..layer + 1).collect(),
                false => vec![layers],
            },
            precision: Precision::F32,
        })
    }

    /// With products in a precision, forward and back.
    #[must_use]
    pub fn in_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// A block as it is now.
    fn block(&self, weights: &MemorySource, layer: usize) -> Result<Block, ModelError> {
        let mut block = match &self.kept {
            None => Block::load(weights, layer, &self.device)?,
            Some(kept) => {
                let mut block = kept.blocks[layer].clone();
                block.renew(weights)?;
                block
            }
        };
        block.set_precision(self.precision);
        Ok(block)
    }

    /// The loss of a batch; its gradients are added to `gradients`. `teacher` is what the teacher says of the same tokens.
    ///
    /// The embedding and the head are gone through by hand, for neither needs more than a few rows at a time; between them burn
    /// goes back through the blocks, from Σ output · ∂loss/∂output, whose gradient is that of the loss.
    ///
    /// # Errors
    /// A token the model does not know; sequences that are too long.
    pub fn accumulate(
        &self,
        weights: &MemorySource,
        batch: &Batch,
        teacher: Option<Teaching<'_>>,
        loss: &HeadLoss<'_>,
        gradients: &mut WeightGradients,
    ) -> Result<LossSums, ModelError> {
        self.accumulate_hidden(weights, batch, (teacher, None), loss, gradients)
    }

    /// The same with the loss of hidden states, where `targets` are given.
    ///
    /// # Errors
    /// As [`Student::accumulate`].
    pub fn accumulate_hidden(
        &self,
        weights: &MemorySource,
        batch: &Batch,
        (teacher, targets): (Option<Teaching<'_>>, Option<HiddenTargets<'_>>),
        loss: &HeadLoss<'_>,
        gradients: &mut WeightGradients,
    ) -> Result<LossSums, ModelError> {
        let (tokens, width) = (batch.tokens.len(), weights.config().hidden_size);
        let context = self.context.packed(batch.documents.clone());
        let forward = |block: &Block, hidden| block.forward(hidden, &context, &mut NoObserver);
        let embedded = embed(weights, &batch.tokens, batch.seq_len, &self.device)?;
        let Some((last, before)) = self.segments.split_last() else { return Ok(LossSums::default()) };
        let mut inputs = vec![embedded];
        for segment in before {
            // burn keeps what it has recorded until the next backward pass, whoever still needs it; here it records nothing.
            let blocks: Vec<Block> = self.blocks(weights, segment)?.iter().map(Block::untracked).collect();
            let hidden = inputs.last().cloned().expect("the embedded tokens at least");
            inputs.push(blocks.iter().try_fold(hidden, |hidden, block| forward(block, hidden))?);
        }
        let (mut sums, mut hidden_loss) = (LossSums::default(), 0.0);
        let mut upstream: Option<Tensor<3>> = None;
        for segment in std::iter::once(last).chain(before.iter().rev()) {
            let input = inputs.pop().expect("one for each segment");
            // Gradients go no further back than something is trained.
            let input = if trains_before(weights, segment.start) { input.require_grad() } else { input };
            let blocks = self.blocks(weights, segment)?;
            let projection = targets.and_then(|targets| targets.projection_on(width, &self.device));
            let (mut output, mut hidden_terms) = (input.clone(), None::<Tensor<1>>);
            for block in &blocks {
                output = forward(block, output)?;
                if let Some(targets) = targets {
                    let rows = output.clone().reshape([tokens, width]);
                    let term = targets.loss(block.layer(), rows, projection.as_ref(), &batch.labels);
                    hidden_loss += f64::from(HostView::of(&term)[0]);
                    hidden_terms = Some(match hidden_terms {
                        Some(sum) => sum + term,
                        None => term,
                    });
                }
            }
            let backward = |along: Tensor<1>| match hidden_terms {
                Some(terms) => (along + terms).backward(),
                None => along.backward(),
            };
            let mut found = match upstream.take() {
                Some(direction) => backward((output * direction).sum()),
                None => {
                    let head = Head::load(weights, &self.device)?;
                    let normed = head.normalize(&output.reshape([tokens, width]));
                    let (loss_sums, direction) =
                        self.head(weights, &normed, batch, teacher, loss, gradients)?;
                    sums = loss_sums;
                    let direction = host::tensor(direction, [tokens, width], &self.device);
                    let mut found = backward((normed * direction).sum());
                    if let Some(gradient) = head.gradient(&mut found) {
                        gradients.add(TensorId::global(Role::FinalNorm), gradient);
                    }
                    found
                }
            };
            blocks.iter().try_for_each(|block| take(block, weights, &mut found, gradients))?;
            if let Some(gradient) = projection.and_then(|projection| projection.grad_remove(&mut found)) {
                gradients.add(Parameter::Projection, host::into_vec(gradient));
            }
            let Some(gradient) = input.grad_remove(&mut found) else { break };
            let shape = gradient.dims();
            if segment.start == 0 {
                add_rows(gradients, weights, &batch.tokens, &HostView::of(&gradient));
            } else {
                upstream = Some(host::tensor(host::into_vec(gradient), shape, &self.device));
            }
        }
        Ok(LossSums { hidden: hidden_loss, ..sums })
    }

    fn blocks(&self, weights: &MemorySource, layers: &Range<usize>) -> Result<Vec<Block>, ModelError> {
        layers.clone().map(|layer| self.block(weights, layer)).collect()
    }

    /// The loss, and its gradient by the normed stream, `[tokens, width]`.
    fn head(
        &self,
        weights: &MemorySource,
        normed: &Tensor<2>,
        batch: &Batch,
        teacher: Option<Teaching<'_>>,
        loss: &HeadLoss<'_>,
        gradients: &mut WeightGradients,
    ) -> Result<(LossSums, Vec<f32>), ModelError> {
        let (config, id) = (weights.config(), weights.config().head());
        let (width, states) = (config.hidden_size, HostView::of(normed));
        let trains = weights.trains(id);
        let weight = match &self.kept {
            Some(kept) if !trains => &kept.head,
            _ => weights.values(id)?,
        };
        let d_head = trains.then(|| gradients.sum_mut(id, config.vocab_size * width).as_mut_slice());
        let input =
            HeadInput { hidden: &states, weight, width, logits: config.logits, precision: self.precision };
        Ok(loss.evaluate(input, teacher, &batch.labels, d_head))
    }
}

/// Whether something in front of a layer is trained.
fn trains_before(weights: &MemorySource, layer: usize) -> bool {
    let before = |id: TensorId| id.layer.is_some_and(|found| found < layer);
    weights.trains(TensorId::global(Role::TokenEmbedding))
        || weights.tensors().any(before)
        || weights.adapters().any(|(id, _)| before(id))
}

/// Adds the gradients of a block's parameters.
fn take(
    block: &Block,
    weights: &MemorySource,
    found: &mut Gradients,
    gradients: &mut WeightGradients,
) -> Result<(), ModelError> {
    let config = weights.config();
    for role in Role::ALL.into_iter().filter(|role| role.is_per_layer() && config.has(*role)) {
        let id = TensorId::block(block.layer(), role);
        if weights.trains(id)
            && let Some(gradient) = block.gradient(role, found)?
        {
            gradients.add(id, gradient);
        }
        if let Some([a, b]) = block.adapter_gradients(role, found) {
            gradients.add(Parameter::LoraA(id), a);
            gradients.add(Parameter::LoraB(id), b);
        }
    }
    Ok(())
}

/// Adds the gradient of the embedded tokens, `[tokens, width]`, to that of the embedding.
fn add_rows(gradients: &mut WeightGradients, weights: &MemorySource, tokens: &[u32], rows: &[f32]) {
    let (config, id) = (weights.config(), TensorId::global(Role::TokenEmbedding));
    let (width, scale) = (config.hidden_size, config.embedding_scale as f32);
    let sum = gradients.sum_mut(id, config.vocab_size * width);
    for (&token, row) in tokens.iter().zip(rows.chunks_exact(width)) {
        sum[token as usize * width..][..width]
            .iter_mut()
            .zip(row)
            .for_each(|(sum, value)| *sum += scale * value);
    }
}
