//! The model that learns: a forward pass, and back.

use std::collections::BTreeMap;

use slmc_model::{
    Block, BurnDevice, Context, Head, HostView, KvPrecision, MemorySource, ModelError, NoObserver, Role,
    TensorId, WeightSource, embed, host,
};

use crate::batch::Batch;
use crate::head::{HeadInput, HeadLoss, LossSums};

/// A gradient for every weight, in the checkpoint's layout: sums over the batches of a step.
#[derive(Debug, Default)]
pub struct WeightGradients(BTreeMap<TensorId, Vec<f32>>);

impl WeightGradients {
    fn add(&mut self, id: TensorId, gradient: Vec<f32>) {
        match self.0.get_mut(&id) {
            Some(sum) => sum.iter_mut().zip(gradient).for_each(|(sum, value)| *sum += value),
            None => {
                self.0.insert(id, gradient);
            }
        }
    }

    /// A tensor's sum; `None` if no batch reached it.
    pub fn get(&self, id: TensorId) -> Option<&[f32]> {
        self.0.get(&id).map(Vec::as_slice)
    }

    /// The length of all of them as one vector.
    pub fn norm(&self) -> f64 {
        use rayon::prelude::*;
        const CHUNK: usize = 64 << 10;
        // Sums of fixed pieces, added up in their order: the same bits with any number of threads.
        let square = |gradient: &Vec<f32>| -> f64 {
            let pieces: Vec<f64> = gradient
                .par_chunks(CHUNK)
                .map(|piece| piece.iter().map(|&value| f64::from(value) * f64::from(value)).sum())
                .collect();
            pieces.iter().sum()
        };
        self.0.values().map(square).sum::<f64>().sqrt()
    }

    /// Multiplies all of them.
    pub fn scale(&mut self, factor: f32) {
        use rayon::prelude::*;
        self.0.values_mut().for_each(|gradient| gradient.par_iter_mut().for_each(|value| *value *= factor));
    }

    /// Every tensor's sum, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (TensorId, &mut [f32])> {
        self.0.iter_mut().map(|(&id, gradient)| (id, gradient.as_mut_slice()))
    }
}

/// Runs a model that is in training. Its weights stand in a [`MemorySource`] that is given for every pass.
pub struct Student {
    context: Context,
    device: BurnDevice,
}

impl Student {
    /// For sequences of up to `positions` tokens; `device` is one with gradients, or becomes it.
    pub fn new(weights: &MemorySource, positions: usize, device: &BurnDevice) -> Self {
        let device = device.clone().autodiff();
        Self { context: Context::new(weights.config(), positions, &device, KvPrecision::F32), device }
    }

    /// The loss of a batch; its gradients are added to `gradients`. `teacher` is what the teacher hands its head for the same
    /// tokens.
    ///
    /// The embedding and the head are gone through by hand, for neither needs more than a few rows at a time; between them burn
    /// goes back through the blocks, from Σ normed · ∂loss/∂normed, whose gradient is that of the loss.
    ///
    /// # Errors
    /// A token the model does not know; sequences that are too long.
    pub fn accumulate(
        &self,
        weights: &MemorySource,
        batch: &Batch,
        teacher: Option<HeadInput<'_>>,
        loss: &HeadLoss<'_>,
        gradients: &mut WeightGradients,
    ) -> Result<LossSums, ModelError> {
        let (config, tokens) = (weights.config(), batch.tokens.len());
        let width = config.hidden_size;
        let embedded = embed(weights, &batch.tokens, batch.seq_len, &self.device)?.require_grad();
        let layers = 0..config.num_hidden_layers;
        let blocks: Vec<Block> =
            layers.map(|layer| Block::load(weights, layer, &self.device)).collect::<Result<_, _>>()?;
        let head = Head::load(weights, &self.device)?;
        let mut hidden = embedded.clone();
        for block in &blocks {
            hidden = block.forward(hidden, &self.context, &mut NoObserver)?;
        }
        let normed = head.normalize(&hidden.reshape([tokens, width]));

        let head_id = config.head();
        let d_head = gradients.0.entry(head_id).or_insert_with(|| vec![0.0; config.vocab_size * width]);
        let states = HostView::of(&normed);
        let logits = config.logits;
        let input = HeadInput { hidden: &states, weight: weights.values(head_id)?, width, logits };
        let (sums, d_normed) = loss.evaluate(input, teacher, &batch.labels, Some(d_head));

        let d_normed = host::tensor(d_normed, [tokens, width], &self.device);
        let mut found = (normed * d_normed).sum().backward();
        for id in config.tensors() {
            let gradient = match id.layer {
                Some(layer) => blocks[layer].gradient(id.role, &mut found)?,
                None if id.role == Role::FinalNorm => head.gradient(&mut found),
                None => None,
            };
            if let Some(gradient) = gradient {
                gradients.add(id, gradient);
            }
        }
        if let Some(d_embedded) = embedded.grad_remove(&mut found) {
            let id = TensorId::global(Role::TokenEmbedding);
            let sum = gradients.0.entry(id).or_insert_with(|| vec![0.0; config.vocab_size * width]);
            let (rows, scale) = (HostView::of(&d_embedded), config.embedding_scale as f32);
            for (&token, row) in batch.tokens.iter().zip(rows.chunks_exact(width)) {
                sum[token as usize * width..][..width]
                    .iter_mut()
                    .zip(row)
                    .for_each(|(sum, value)| *sum += scale * value);
            }
        }
        Ok(sums)
    }
}
