//! The walk through the model on which costs are measured.

use slmc_calibration::statistics::SecondMoment;
use slmc_eval::Variant;
use slmc_gguf::activation::ActivationFormat;
use slmc_model::{
    Block, BurnDevice, Head, HostView, LinearInput, ModelError, NoObserver, Role, Tensor, TensorId,
    WeightSource, embed, host,
};
use slmc_quant::gptq::FeedbackFactor;

use super::conclusion::{Use, conclude};
use super::costs::{OutputErrors, Types};
use super::hessians::Moments;
use super::levels::{Level, StoredLayer};
use super::rounding::{Care, ChangedHead, Knowledge};
use super::stream::{Samples, Stream, WindowStates};
use super::{Feedback, Request, Sensitivity};
use crate::PipelineError;
use crate::hidden::HiddenStates;
use crate::progress::{Reporter, Unit};
use crate::walker::{BATCH_TOKENS, Walk};

/// Weights of a head that are rounded together.
const HEAD_WEIGHTS: usize = 1 << 24;

/// A measurement on its way through the model.
pub struct Measurement<'a> {
    request: &'a Request<'a>,
    reporter: &'a dyn Reporter,
    stream: Stream<'a>,
    formats: Vec<ActivationFormat>,
    /// The windows' embeddings.
    embedded: WindowStates,
    /// The original's final states.
    original: Tensor<2>,
    levels: Vec<Level>,
    /// Output errors of the levels' lookups.
    lookups: Vec<f64>,
    uses: Vec<Use>,
}

impl<'a> Measurement<'a> {
    /// Runs the float model over the windows.
    ///
    /// # Errors
    /// As [`measure`](super::measure).
    pub fn start(request: &'a Request<'a>, reporter: &'a dyn Reporter) -> Result<Self, PipelineError> {
        let seq_len = request.windows.first().map_or(0, Vec::len);
        let stream = Stream::new(request.source, seq_len, request.device, reporter)?;
        let embedded = embed_all(request.source, request.windows, request.device)?;
        let original = stream.finish(0, vec![embedded.clone()], ActivationFormat::F32)?.remove(0);
        let tried = request.types.values().flat_map(|types| &types.candidates).filter(|ty| ty.is_quantized());
        let (mut formats, mut types): (Vec<_>, Vec<_>) =
            tried.map(|ty| (ActivationFormat::for_weights(*ty), *ty)).unzip();
        formats.sort_by_key(|format| (format.block_len(), *format == ActivationFormat::Q8_1));
        formats.dedup();
        types.sort_unstable();
        types.dedup();
        let levels = types.into_iter().map(|ty| Level { ty, hidden: WindowStates::new() }).collect();
        let (lookups, uses) = (Vec::new(), Vec::new());
        let mut this = Self { request, reporter, stream, formats, embedded, original, levels, lookups, uses };
        this.look_up()?;
        Ok(this)
    }

    /// Where the levels begin. How error feedback will round a tied embedding is known only at the end of the walk; they look
    /// up one that is rounded plainly.
    fn look_up(&mut self) -> Result<(), PipelineError> {
        let embedding = self.types(TensorId::global(Role::TokenEmbedding));
        for level in &mut self.levels {
            let Some((tensor, types)) = &embedding else {
                level.hidden = self.embedded.clone();
                self.lookups.push(0.0);
                continue;
            };
            let ty = types.candidates[types.nearest(level.ty)];
            let types = Types { candidates: vec![ty], reference: ty, hold_zeros: false };
            let mut errors = OutputErrors::default();
            for states in &self.embedded {
                let shape = states.dims();
                let rounded = errors
                    .add_lookup(&HostView::of(states), shape[2], &types, &Knowledge::Nothing)
                    .map_err(|source| PipelineError::Rounding { tensor: tensor.clone(), source })?;
                level.hidden.push(host::tensor(rounded.reference, shape, self.request.device));
            }
            self.lookups.push(errors.careful);
        }
        Ok(())
    }

    /// Measures.
    ///
    /// # Errors
    /// As [`measure`](super::measure).
    pub fn run(mut self) -> Result<Sensitivity, PipelineError> {
        let request = self.request;
        let mut windows = self.embedded.clone();
        // without feedback there is nothing to gather on the way
        let plain = Walk::new(request.source, request.windows, request.device, self.reporter);
        let walk = request.feedback.map_or(&plain, |feedback| feedback.walk);
        let calibration = walk.blocks(|layer, block, hidden, context| {
            let mut moments = Moments::new(layer);
            if request.feedback.is_some() {
                hidden.replace(|states| Ok(block.forward(states, context, &mut moments)?))?;
            }
            windows = self.block(block, &windows, &mut moments)?;
            Ok(())
        })?;
        self.reporter.begin("Measuring", 1, Unit::Steps);
        self.reporter.status("embedding and head");
        let levels = self.ends(&calibration)?;
        let inputs = self.input_divergences()?;
        self.reporter.advance(1);
        self.reporter.end();
        Ok(conclude(&self.uses, request.types, &self.formats, &inputs, &levels))
    }

    /// Measures the linear layers of a block; gives the windows behind it.
    fn block(
        &mut self,
        block: &mut Block,
        windows: &WindowStates,
        moments: &mut Moments,
    ) -> Result<WindowStates, PipelineError> {
        let request = self.request;
        let config = request.source.config();
        let layer = block.layer();
        let mut samples = Samples::of(tokens(windows));
        let behind = self.stream.step(block, windows, &mut samples)?;
        let (mut uses, mut variants, mut stored) = (Vec::new(), Vec::new(), Vec::new());
        for input in LinearInput::ALL {
            let failed = |tensor: &str| {
                let tensor = tensor.to_owned();
                move |source| PipelineError::Rounding { tensor, source }
            };
            let shared = match request.feedback {
                Some(f) => Some(
                    moments
                        .take(input, f.damping, f.passes)
                        .map_err(failed(&format!("block {layer}, {input}")))?,
                ),
                None => None,
            };
            for role in input.roles(config) {
                let Some((tensor, types)) = self.types(TensorId::block(layer, role)) else { continue };
                let own = self.importance(&tensor);
                let knowledge = shared.as_ref().unwrap_or(&own);
                let weights = block.weight(role)?;
                let columns = config.shape(role)[1];
                let (mut errors, x) = (OutputErrors::default(), samples.input(input));
                errors.add_inputs(&weights, x, columns, &self.formats).map_err(failed(&tensor))?;
                let rounded =
                    errors.add_product(&weights, x, columns, types, knowledge).map_err(failed(&tensor))?;
                block.set_weight(role, rounded.reference)?;
                variants.push(self.stream.step(block, windows, &mut NoObserver)?);
                block.set_weight(role, weights)?;
                stored.push(StoredLayer { role, columns, types, candidates: rounded.candidates });
                let levels =
                    self.levels.iter().map(|level| errors.candidates[types.nearest(level.ty)]).collect();
                uses.push(Use { tensor, errors, divergence: 0.0, levels });
            }
        }
        for level in &mut self.levels {
            level.step(&self.stream, block, &stored)?;
        }
        drop(stored);
        let states = self.stream.finish(layer + 1, variants, ActivationFormat::F32)?;
        let variants: Vec<_> = states.into_iter().map(|states| Variant { states, head: None }).collect();
        let divergences = self.stream.divergences(&self.original, &variants)?;
        for (mut used, divergence) in uses.into_iter().zip(divergences) {
            used.divergence = divergence;
            self.uses.push(used);
        }
        Ok(behind)
    }

    /// Measures the embedding and the head, from the calibration's hidden states behind the last block; then the models with all
    /// tensors rounded, whose divergences are given.
    fn ends(&mut self, calibration: &HiddenStates) -> Result<Vec<f64>, PipelineError> {
        let request = self.request;
        let (source, config) = (request.source, request.source.config());
        let (head, embedding) = (config.head(), TensorId::global(Role::TokenEmbedding));
        let knowledge = match request.feedback {
            Some(feedback) => head_knowledge(source, request.device, calibration, &feedback)?,
            None => config.arch.gguf_name(head).map_or(Knowledge::Nothing, |name| self.importance(&name)),
        };
        if let Some((tensor, types)) = self.types(embedding) {
            let own = self.importance(&tensor);
            let knowledge = if embedding == head { &knowledge } else { &own };
            let mut errors = OutputErrors::default();
            let mut looked_up = WindowStates::new();
            for states in &self.embedded {
                let shape = states.dims();
                let rounded = errors
                    .add_lookup(&HostView::of(states), shape[2], types, knowledge)
                    .map_err(|source| PipelineError::Rounding { tensor: tensor.clone(), source })?;
                looked_up.push(host::tensor(rounded.reference, shape, request.device));
            }
            let states = self.stream.finish(0, vec![looked_up], ActivationFormat::F32)?.remove(0);
            let variant = Variant { states, head: None };
            let divergence = self.stream.divergences(&self.original, &[variant])?[0];
            self.uses.push(Use { tensor, errors, divergence, levels: self.lookups.clone() });
        }
        if let Some((tensor, types)) = self.types(head) {
            let errors = self.head_errors(&tensor, types, &knowledge)?;
            let rounding = Some((types.reference, &knowledge, Care::Full));
            let changed = ChangedHead { source, rounding, activation: ActivationFormat::F32 };
            let variant = Variant { states: self.original.clone(), head: Some(&changed) };
            let divergence = self.stream.divergences(&self.original, &[variant])?[0];
            let levels = self.levels.iter().map(|level| errors.candidates[types.nearest(level.ty)]).collect();
            self.uses.push(Use { tensor, errors, divergence, levels });
        }
        self.level_divergences(&knowledge)
    }

    fn head_errors(
        &self,
        tensor: &str,
        types: &Types,
        knowledge: &Knowledge,
    ) -> Result<OutputErrors, PipelineError> {
        let (source, config) = (self.request.source, self.request.source.config());
        let width = config.hidden_size;
        let states = HostView::of(&self.original);
        let inputs = Samples::of(states.len() / width).thin(&states, width);
        let step = (HEAD_WEIGHTS / width).max(1);
        let mut errors = OutputErrors::default();
        for first in (0..config.vocab_size).step_by(step) {
            let rows = first..config.vocab_size.min(first + step);
            let weights = source.load_rows(config.head(), rows)?.values;
            errors
                .add_inputs(&weights, &inputs, width, &self.formats)
                .and_then(|()| errors.add_product(&weights, &inputs, width, types, knowledge))
                .map_err(|source| PipelineError::Rounding { tensor: tensor.to_owned(), source })?;
        }
        source.release(config.head());
        Ok(errors)
    }

    /// The divergences of the models with all tensors rounded.
    fn level_divergences(&mut self, head: &Knowledge) -> Result<Vec<f64>, PipelineError> {
        let (source, config) = (self.request.source, self.request.source.config());
        let hidden = self.levels.iter_mut().map(|level| std::mem::take(&mut level.hidden)).collect();
        let states = self.stream.finish(config.num_hidden_layers, hidden, ActivationFormat::F32)?;
        let types = self.types(config.head()).map(|(_, types)| types);
        let heads: Vec<ChangedHead<'_>> = self
            .levels
            .iter()
            .map(|level| {
                let rounding =
                    types.map(|types| (types.candidates[types.nearest(level.ty)], head, Care::Least));
                ChangedHead { source, rounding, activation: ActivationFormat::F32 }
            })
            .collect();
        let variants: Vec<_> = states
            .into_iter()
            .zip(&heads)
            .map(|(states, head)| Variant { states, head: Some(head as &dyn WeightSource) })
            .collect();
        self.stream.divergences(&self.original, &variants)
    }

    /// What the inputs' rounding to each format costs the whole model.
    fn input_divergences(&self) -> Result<Vec<f64>, PipelineError> {
        let formats = self.formats.iter().map(|&format| {
            let states = self.stream.finish(0, vec![self.embedded.clone()], format)?.remove(0);
            let changed = ChangedHead { source: self.request.source, rounding: None, activation: format };
            let variant = Variant { states, head: Some(&changed) };
            Ok(self.stream.divergences(&self.original, &[variant])?[0])
        });
        formats.collect()
    }

    fn types(&self, id: TensorId) -> Option<(String, &'a Types)> {
        let name = self.request.source.config().arch.gguf_name(id)?;
        let types = self.request.types.get(&name)?;
        Some((name, types))
    }

    fn importance(&self, tensor: &str) -> Knowledge {
        match self.request.importance.get(tensor) {
            Some(importance) => Knowledge::Importance(importance.clone()),
            None => Knowledge::Nothing,
        }
    }
}

fn tokens(hidden: &WindowStates) -> usize {
    hidden.iter().map(|states| states.dims()[0] * states.dims()[1]).sum()
}

pub(super) fn embed_all(
    source: &dyn WeightSource,
    sequences: &[Vec<u32>],
    device: &BurnDevice,
) -> Result<WindowStates, ModelError> {
    let seq_len = sequences.first().map_or(0, Vec::len);
    let batches = sequences.chunks((BATCH_TOKENS / seq_len.max(1)).max(1));
    batches.map(|batch| embed(source, &batch.concat(), seq_len, device)).collect()
}

/// The factor of the head's inputs' Hessian.
fn head_knowledge(
    source: &dyn WeightSource,
    device: &BurnDevice,
    calibration: &HiddenStates,
    feedback: &Feedback<'_>,
) -> Result<Knowledge, PipelineError> {
    let head = Head::load(source, device)?;
    let width = source.config().hidden_size;
    let mut moment = SecondMoment::new("the head", width);
    calibration.each(|states| {
        let [sequences, seq_len, _] = states.dims();
        let normalized = head.normalize(&states.reshape([sequences * seq_len, width]));
        Ok(moment.add(&HostView::of(&normalized))?)
    })?;
    let factor = FeedbackFactor::new(moment.hessian(), width, feedback.head_damping)
        .map_err(|source| PipelineError::Rounding { tensor: "the head".into(), source })?;
    Ok(Knowledge::Hessian { factor, passes: feedback.passes })
}
