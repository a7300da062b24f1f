//! A group of windows on its way through one model.

use std::ops::Range;

use slmc_model::{Block, Context, Device, Head, ModelError, NoObserver, Tensor, WeightSource, embed};

use crate::plan::{Plan, block_work};
use crate::windows::Windows;

/// Windows that go through a model together, `first` and the `count - 1` after it.
#[derive(Clone, Copy)]
pub(crate) struct Group<'a> {
    pub windows: &'a Windows<'a>,
    pub first: usize,
    pub count: usize,
    pub plan: &'a Plan,
}

/// What is left of a model after its blocks: the final norm's outputs at the scored positions.
pub(crate) struct FinalStates {
    /// Where logits are made.
    pub head: Head,
    /// `[windows · scored positions, hidden_size]` for every chunk.
    pub chunks: Vec<Tensor<2>>,
}

impl Group<'_> {
    /// The windows of every chunk.
    pub fn chunks(&self) -> impl Iterator<Item = Range<usize>> {
        let end = self.first + self.count;
        let size = self.plan.windows_per_chunk;
        (self.first..end).step_by(size).map(move |first| first..(first + size).min(end))
    }

    /// The tokens that the scored positions of a chunk's windows should predict.
    pub fn targets(&self, chunk: Range<usize>) -> Vec<u32> {
        chunk.flat_map(|window| self.windows.targets(window)).copied().collect()
    }

    /// Runs the model's blocks. `step` hears how many multiply-adds are done.
    ///
    /// # Errors
    /// The model cannot be read or run.
    pub fn forward(
        &self,
        source: &dyn WeightSource,
        device: Device,
        step: &mut dyn FnMut(f64),
    ) -> Result<FinalStates, ModelError> {
        let config = source.config();
        let device = device.burn()?;
        let n_ctx = self.windows.n_ctx();
        let context = Context::new(config, n_ctx, &device, source.kv_precision());

        let mut inputs = Vec::with_capacity(self.plan.windows_per_chunk * n_ctx);
        let mut chunks = Vec::with_capacity(self.count.div_ceil(self.plan.windows_per_chunk));
        for chunk in self.chunks() {
            inputs.clear();
            chunk.for_each(|window| self.windows.extend_inputs(window, &mut inputs));
            chunks.push(embed(source, &inputs, n_ctx, &device)?);
        }

        for layer in 0..config.num_hidden_layers {
            let block = Block::load(source, layer, &device)?;
            let run = |hidden: Tensor<3>| {
                let [batch, _, _] = hidden.dims();
                let hidden = if layer + 1 == config.num_hidden_layers {
                    self.last_block(&block, hidden, &context)?
                } else {
                    block.forward(hidden, &context, &mut NoObserver)?
                };
                step(block_work(config) * (batch * n_ctx) as f64);
                Ok(hidden)
            };
            chunks = chunks.into_iter().map(run).collect::<Result<_, ModelError>>()?;
        }

        let head = Head::load(source, &device)?;
        let normalize = |hidden: Tensor<3>| {
            let [batch, scored, width] = hidden.dims();
            head.normalize(&hidden.reshape([batch * scored, width]))
        };
        let chunks = chunks.into_iter().map(normalize).collect();
        Ok(FinalStates { head, chunks })
    }

    /// The last block: its MLP is needed at the scored positions only.
    fn last_block(
        &self,
        block: &Block,
        hidden: Tensor<3>,
        context: &Context,
    ) -> Result<Tensor<3>, ModelError> {
        let [batch, _, width] = hidden.dims();
        let normed = block.attention_input(&hidden);
        let hidden = hidden + block.attention_output(normed, context, &mut NoObserver)?;
        let hidden = hidden.slice([0..batch, self.windows.scored(), 0..width]);
        let normed = block.mlp_input(&hidden);
        Ok(hidden + block.mlp_output(normed, &mut NoObserver)?)
    }
}
