//! A model that only predicts: the teacher, and the student where it is judged.

use slmc_model::{Block, BurnDevice, Context, Head, HostView, ModelError, NoObserver, WeightSource, embed};

use crate::batch::Batch;
use crate::head::HeadInput;

/// A whole model on a device, that predicts and does not change.
pub struct Predictor<'a> {
    source: &'a dyn WeightSource,
    blocks: Vec<Block>,
    head: Head,
    head_weight: Vec<f32>,
    context: Context,
    device: BurnDevice,
}

/// What a model hands its head for the tokens of a batch.
pub struct FinalStates {
    hidden: HostView,
    width: usize,
}

impl<'a> Predictor<'a> {
    /// Loads a model for sequences of up to `positions` tokens.
    ///
    /// # Errors
    /// Whatever the source reports.
    pub fn load(
        source: &'a dyn WeightSource,
        positions: usize,
        device: &BurnDevice,
    ) -> Result<Self, ModelError> {
        let config = source.config();
        let blocks = (0..config.num_hidden_layers).map(|layer| Block::load(source, layer, device));
        Ok(Self {
            blocks: blocks.collect::<Result<_, _>>()?,
            head: Head::load(source, device)?,
            head_weight: source.load(config.head())?.values,
            context: Context::new(config, positions, device, source.kv_precision()),
            device: device.clone(),
            source,
        })
    }

    /// The final states of a batch's tokens.
    ///
    /// # Errors
    /// A token the model does not know; sequences that are too long.
    pub fn predict(&self, batch: &Batch) -> Result<FinalStates, ModelError> {
        let (seq, width) = (batch.seq_len, self.source.config().hidden_size);
        let mut hidden = embed(self.source, &batch.tokens, seq, &self.device)?;
        for block in &self.blocks {
            hidden = block.forward(hidden, &self.context, &mut NoObserver)?;
        }
        let normed = self.head.normalize(&hidden.reshape([batch.tokens.len(), width]));
        Ok(FinalStates { hidden: HostView::of(&normed), width })
    }

    /// The states with this model's head.
    pub fn with_head<'b>(&'b self, states: &'b FinalStates) -> HeadInput<'b> {
        let logits = self.source.config().logits;
        HeadInput { hidden: &states.hidden, weight: &self.head_weight, width: states.width, logits }
    }
}
