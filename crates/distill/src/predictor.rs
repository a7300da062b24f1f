//! A model that only predicts: the teacher, and the student where it is judged.

use slmc_matmul::Precision;
use slmc_model::{
    Block, BurnDevice, Context, Head, HostView, ModelError, NoObserver, Tensor, WeightSource, embed,
};

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
    precision: Precision,
    layers: Vec<HostView>,
}

impl FinalStates {
    /// What left the layers that were asked for, `[tokens, width]`.
    pub fn layers(&self) -> &[HostView] {
        &self.layers
    }
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
        Self::with(source, positions, device, Block::load)
    }

    /// The same, with matrices left where they are stored, if the source and the device allow that.
    ///
    /// # Errors
    /// Whatever the source reports.
    pub fn open(
        source: &'a dyn WeightSource,
        positions: usize,
        device: &BurnDevice,
    ) -> Result<Self, ModelError> {
        Self::with(source, positions, device, Block::open)
    }

    fn with(
        source: &'a dyn WeightSource,
        positions: usize,
        device: &BurnDevice,
        block: impl Fn(&dyn WeightSource, usize, &BurnDevice) -> Result<Block, ModelError>,
    ) -> Result<Self, ModelError> {
        let config = source.config();
        let blocks = (0..config.num_hidden_layers).map(|layer| block(source, layer, device));
        Ok(Self {
            blocks: blocks.collect::<Result<_, _>>()?,
            head: Head::load(source, device)?,
            head_weight: source.load(config.head())?.values,
            context: Context::new(config, positions, device, source.kv_precision()),
            device: device.clone(),
            source,
        })
    }

    /// The final states of a batch's tokens, in f32.
    ///
    /// # Errors
    /// A token the model does not know; sequences that are too long.
    pub fn predict(&self, batch: &Batch) -> Result<FinalStates, ModelError> {
        self.predict_with(batch, &[], Precision::F32)
    }

    /// The same, with products in a precision, and what leaves some layers, in the order they are given in.
    ///
    /// # Errors
    /// As [`Predictor::predict`].
    pub fn predict_with(
        &self,
        batch: &Batch,
        layers: &[usize],
        precision: Precision,
    ) -> Result<FinalStates, ModelError> {
        let mut kept: Vec<Option<Tensor<3>>> = vec![None; self.blocks.len()];
        let (seq, width) = (batch.seq_len, self.source.config().hidden_size);
        let mut hidden = embed(self.source, &batch.tokens, seq, &self.device)?;
        let context = self.context.packed(batch.documents.clone());
        for block in &self.blocks {
            // A copy of what refers to the weights.
            let mut block = block.clone();
            block.set_precision(precision);
            hidden = block.forward(hidden, &context, &mut NoObserver)?;
            if layers.contains(&block.layer()) {
                kept[block.layer()] = Some(hidden.clone());
            }
        }
        let layers = layers.iter().filter_map(|&layer| kept.get(layer)?.as_ref().map(HostView::of)).collect();
        let normed = self.head.normalize(&hidden.reshape([batch.tokens.len(), width]));
        Ok(FinalStates { hidden: HostView::of(&normed), width, precision, layers })
    }

    /// The states with this model's head.
    pub fn with_head<'b>(&'b self, states: &'b FinalStates) -> HeadInput<'b> {
        let logits = self.source.config().logits;
        HeadInput {
            hidden: &states.hidden,
            weight: &self.head_weight,
            width: states.width,
            logits,
            precision: states.precision,
        }
    }
}
