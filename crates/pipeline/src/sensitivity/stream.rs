//! The windows on which losses are measured, on their way through the model.

use std::ops::Range;

use slmc_eval::Variant;
use slmc_gguf::activation::ActivationFormat;
use slmc_model::{
    Block, BurnDevice, Context, Head, LinearInput, LinearObserver, ModelError, NoObserver, Role, Tensor,
    WeightSource,
};

use crate::PipelineError;
use crate::progress::Reporter;

/// Hidden states of the windows: few, so that they stay in memory.
pub type WindowStates = Vec<Tensor<3>>;

/// Inputs of a linear layer that output errors are taken over: enough for the ratio of two of them.
const MOST_INPUTS: usize = 1024;

/// What the windows run through.
pub struct Stream<'a> {
    source: &'a dyn WeightSource,
    device: &'a BurnDevice,
    reporter: &'a dyn Reporter,
    context: Context,
    head: Head,
}

impl<'a> Stream<'a> {
    /// For windows of `seq_len` tokens.
    ///
    /// # Errors
    /// The head cannot be read.
    pub fn new(
        source: &'a dyn WeightSource,
        seq_len: usize,
        device: &'a BurnDevice,
        reporter: &'a dyn Reporter,
    ) -> Result<Self, PipelineError> {
        let context = Context::new(source.config(), seq_len, device, source.kv_precision());
        Ok(Self { source, device, reporter, context, head: Head::load(source, device)? })
    }

    /// The positions whose predictions count: all but the first eighth, which has little context. Evaluations score the second
    /// half; here a window is too dear for that.
    fn scored(&self) -> Range<usize> {
        self.context.positions() / 8..self.context.positions()
    }

    /// Block `layer`.
    ///
    /// # Errors
    /// It cannot be read; the user cancels.
    pub fn block(&self, layer: usize) -> Result<Block, PipelineError> {
        if self.reporter.is_cancelled() {
            return Err(PipelineError::Cancelled);
        }
        Ok(Block::load(self.source, layer, self.device)?)
    }

    /// Hidden states behind a block from those in front of it.
    ///
    /// # Errors
    /// It cannot be run; the observer objects.
    pub fn step(
        &self,
        block: &Block,
        hidden: &WindowStates,
        observer: &mut dyn LinearObserver,
    ) -> Result<WindowStates, PipelineError> {
        let outputs = hidden.iter().map(|states| block.forward(states.clone(), &self.context, observer));
        Ok(outputs.collect::<Result<_, ModelError>>()?)
    }

    /// Every variant's hidden states in front of block `first` through the rest of the model and the final norm, at the scored
    /// positions: `[tokens, hidden_size]`. Products round their inputs to `activation`, where it fits.
    ///
    /// # Errors
    /// A block cannot be read or run; the user cancels.
    pub fn finish(
        &self,
        first: usize,
        mut variants: Vec<WindowStates>,
        activation: ActivationFormat,
    ) -> Result<Vec<Tensor<2>>, PipelineError> {
        let config = self.source.config();
        for layer in first..config.num_hidden_layers {
            let mut block = self.block(layer)?;
            for role in Role::LINEAR.into_iter().filter(|&role| config.has(role)) {
                if config.shape(role)[1].is_multiple_of(activation.block_len()) {
                    block.set_activation(role, activation)?;
                }
            }
            for hidden in &mut variants {
                // handed over, so that the block can add onto them in place
                let states = std::mem::take(hidden).into_iter();
                let outputs = states.map(|states| block.forward(states, &self.context, &mut NoObserver));
                *hidden = outputs.collect::<Result<_, ModelError>>()?;
            }
        }
        let scored = self.scored();
        let states = variants.into_iter().map(|hidden| {
            let parts = hidden.into_iter().map(|states| {
                let [windows, _, width] = states.dims();
                let states = states.slice([0..windows, scored.clone(), 0..width]);
                self.head.normalize(&states.reshape([windows * scored.len(), width]))
            });
            Tensor::cat(parts.collect(), 0)
        });
        Ok(states.collect())
    }

    /// Mean KL divergences per scored token, see [`slmc_eval::mean_divergences`].
    ///
    /// # Errors
    /// A head cannot be read; logits that are not finite.
    pub fn divergences(
        &self,
        original: &Tensor<2>,
        variants: &[Variant<'_>],
    ) -> Result<Vec<f64>, PipelineError> {
        Ok(slmc_eval::mean_divergences(self.source, &self.head, original, variants)?)
    }
}

/// Some of the inputs of a block's linear layers, evenly spread over the windows.
#[derive(Default)]
pub struct Samples {
    stride: usize,
    inputs: [Vec<f32>; 4],
}

impl Samples {
    /// Takes every so many-th of `tokens` tokens.
    pub fn of(tokens: usize) -> Self {
        // odd, so that it does not keep to the same positions of every window
        Self { stride: tokens.div_ceil(MOST_INPUTS) | 1, inputs: Default::default() }
    }

    /// `[n, d_in]`.
    pub fn input(&self, input: LinearInput) -> &[f32] {
        &self.inputs[input.index()]
    }

    /// Every so many-th row of `rows` (`[n, columns]`).
    pub fn thin(&self, rows: &[f32], columns: usize) -> Vec<f32> {
        rows.chunks_exact(columns).step_by(self.stride).flatten().copied().collect()
    }
}

impl LinearObserver for Samples {
    fn observe(
        &mut self,
        input: LinearInput,
        x: &[f32],
        d_in: usize,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let taken = self.thin(x, d_in);
        self.inputs[input.index()].extend(taken);
        Ok(())
    }
}
