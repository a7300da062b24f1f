//! A group of windows on its way through one model.

use std::ops::{ControlFlow, Range};

use slmc_model::{Block, Context, Device, Head, ModelError, NoObserver, Tensor, WeightSource, embed};

use crate::plan::block_work;
use crate::windows::Windows;

/// Windows that go through a model together, a chunk in one call.
#[derive(Clone, Copy)]
pub(crate) struct Group<'a> {
    pub windows: &'a Windows<'a>,
    /// Each of windows of one shape.
    pub chunks: &'a [Range<usize>],
    pub head_rows: usize,
}

/// Hears how many multiply-adds are done; what it answers decides whether the work goes on.
pub(crate) type Step<'a> = dyn FnMut(f64) -> ControlFlow<()> + 'a;

/// What is left of a model after its blocks: the final norm's outputs at the scored positions.
pub(crate) struct FinalStates {
    /// Where logits are made.
    pub head: Head,
    /// `[windows · scored positions, hidden_size]` for every chunk.
    pub chunks: Vec<Tensor<2>>,
}

impl Group<'_> {
    /// The tokens that the scored positions of a chunk's windows should predict.
    pub fn targets(&self, chunk: Range<usize>) -> Vec<u32> {
        chunk.flat_map(|window| self.windows.targets(window)).copied().collect()
    }

    /// Runs the model's blocks. `None` if `step` wants no more.
    ///
    /// # Errors
    /// The model cannot be read or run.
    pub fn forward(
        &self,
        source: &dyn WeightSource,
        device: Device,
        step: &mut Step<'_>,
    ) -> Result<Option<FinalStates>, ModelError> {
        let config = source.config();
        let device = device.burn()?;
        let shape_of = |chunk: &Range<usize>| &self.windows.all()[chunk.start];
        let longest = self.chunks.iter().map(|chunk| shape_of(chunk).len).max().unwrap_or(0);
        let context = Context::new(config, longest, &device, source.kv_precision());

        let mut inputs = Vec::new();
        let mut states = Vec::with_capacity(self.chunks.len());
        for chunk in self.chunks {
            inputs.clear();
            chunk.clone().for_each(|window| self.windows.extend_inputs(window, &mut inputs));
            states.push(embed(source, &inputs, shape_of(chunk).len, &device)?);
        }

        for layer in 0..config.num_hidden_layers {
            let block = Block::load(source, layer, &device)?;
            let mut outputs = Vec::with_capacity(states.len());
            for (hidden, chunk) in states.into_iter().zip(self.chunks) {
                let [batch, len, _] = hidden.dims();
                outputs.push(if layer + 1 == config.num_hidden_layers {
                    last_block(&block, hidden, shape_of(chunk).scored.clone(), &context)?
                } else {
                    block.forward(hidden, &context, &mut NoObserver)?
                });
                if step(block_work(config) * (batch * len) as f64).is_break() {
                    return Ok(None);
                }
            }
            states = outputs;
        }

        let head = Head::load(source, &device)?;
        let normalize = |hidden: Tensor<3>| {
            let [batch, scored, width] = hidden.dims();
            head.normalize(&hidden.reshape([batch * scored, width]))
        };
        let chunks = states.into_iter().map(normalize).collect();
        Ok(Some(FinalStates { head, chunks }))
    }
}

/// The last block: its MLP is needed at the scored positions only.
fn last_block(
    block: &Block,
    hidden: Tensor<3>,
    scored: Range<usize>,
    context: &Context,
) -> Result<Tensor<3>, ModelError> {
    let [batch, _, width] = hidden.dims();
    let normed = block.attention_input(&hidden);
    let hidden = hidden + block.attention_output(normed, context, &mut NoObserver)?;
    let hidden = hidden.slice([0..batch, scored, 0..width]);
    let normed = block.mlp_input(&hidden);
    Ok(hidden + block.mlp_output(normed, &mut NoObserver)?)
}
