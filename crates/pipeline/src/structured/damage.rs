//! What removing some of one kind does to the whole model: its divergence from the original, measured.
//!
//! Beside the original run copies of it, each with fewer of one kind, chosen and solved for in one go on the original's statistics.

use serde::Serialize;
use slmc_calibration::statistics::SecondMoment;
use slmc_eval::Variant;
use slmc_gguf::activation::ActivationFormat;
use slmc_model::{Block, LinearInput, LinearObserver, ModelConfig, NoObserver, Role, embed};
use slmc_prune::structured::{Kind, Widths, solve};
use slmc_quant::gptq::FeedbackFactor;

use super::{Choice, Profile, Shape};
use crate::PipelineError;
use crate::gptq::DAMPING;
use crate::sensitivity::stream::{Stream, WindowStates};
use crate::walker::{BATCH_TOKENS, Walk};

/// What was measured of one removal.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Damage {
    /// Of which kind.
    pub kind: Kind,
    /// How many stayed.
    pub kept: usize,
    /// Mean KL divergence from the original, nats per token.
    pub divergence: f64,
}

/// Measures each of `removals` (a kind and how many stay) on `windows`; the walk's sequences give the statistics. Nothing depends on the
/// number of threads.
///
/// # Errors
/// The model cannot be run; a statistic is not finite; the user cancels.
pub fn measure(
    walk: &Walk<'_>,
    windows: &[Vec<u32>],
    removals: &[(Kind, usize)],
    (choice, solves): (Choice, bool),
    (profile, dispensable): (&Profile, &[usize]),
) -> Result<Vec<Damage>, PipelineError> {
    let (source, config) = (walk.source, walk.source.config());
    let full = Shape::widths_of(config);
    let seq_len = windows.first().map_or(0, Vec::len);
    let stream = Stream::new(source, seq_len, walk.device, walk.reporter)?;
    let batches = windows.chunks((BATCH_TOKENS / seq_len.max(1)).max(1));
    let embedded: WindowStates = batches
        .map(|batch| embed(source, &batch.concat(), seq_len, walk.device))
        .collect::<Result<_, _>>()?;
    let mut original = embedded.clone();
    let mut copies: Vec<Copy> = removals
        .iter()
        .map(|&(kind, kept)| {
            let shape = Shape::new(full.with(kind, kept), full.layers, dispensable);
            Copy { kind, kept, shape, states: embedded.clone() }
        })
        .collect();
    let cutter = Cutter { config, choice, solves, profile };
    walk.blocks(|layer, block, hidden, context| {
        let mut moments = Moments::new(layer);
        hidden.replace(|states| Ok(block.forward(states, context, &mut moments)?))?;
        let factors = moments
            .factors()
            .map_err(|source| PipelineError::Rounding { tensor: format!("block {layer}"), source })?;
        for copy in &mut copies {
            if !copy.shape.layers.contains(&layer) {
                continue;
            }
            let cut = cutter.cut(block, copy, &factors, full)?;
            copy.states = stream.step(cut.as_ref().unwrap_or(block), &copy.states, &mut NoObserver)?;
        }
        original = stream.step(block, &original, &mut NoObserver)?;
        Ok(())
    })?;
    let mut states: Vec<WindowStates> = vec![original];
    states.extend(copies.iter_mut().map(|copy| std::mem::take(&mut copy.states)));
    let mut states = stream.finish(config.num_hidden_layers, states, ActivationFormat::F32)?.into_iter();
    let original = states.next().expect("the original is first");
    let variants: Vec<_> = states.map(|states| Variant { states, head: None }).collect();
    let divergences = stream.divergences(&original, &variants)?;
    let damages = copies.into_iter().zip(divergences);
    Ok(damages.map(|(Copy { kind, kept, .. }, divergence)| Damage { kind, kept, divergence }).collect())
}

/// The model with fewer of one kind, on its way.
struct Copy {
    kind: Kind,
    kept: usize,
    shape: Shape,
    states: WindowStates,
}

struct Cutter<'a> {
    config: &'a ModelConfig,
    choice: Choice,
    solves: bool,
    profile: &'a Profile,
}

impl Cutter<'_> {
    /// The block with zeros where the copy has nothing; `None` where it has everything.
    fn cut(
        &self,
        block: &Block,
        copy: &Copy,
        factors: &[FeedbackFactor; 2],
        full: Widths,
    ) -> Result<Option<Block>, PipelineError> {
        let (layer, [heads, channels]) = (block.layer(), factors);
        let profile = &self.profile.layers[layer];
        let role = match copy.kind {
            Kind::Layers => return Ok(None),
            Kind::KeyValueHeads | Kind::QueryHeads => Role::Output,
            Kind::Channels => Role::Down,
        };
        let failed = |source| PipelineError::Pruning { tensor: format!("{role:?} of block {layer}"), source };
        let mut weights = block.weight(role)?;
        let (kept, factor) = if role == Role::Output {
            let place = (layer, self.config, copy.shape.widths);
            (self.choice.queries(&weights, heads, &profile.heads, place), heads)
        } else {
            let removed = full.channels - copy.kept;
            let gone = self.choice.channels(&weights, channels, &profile.channels, (layer, removed));
            (gone.map(|gone| gone.kept(removed)), channels)
        };
        let kept = kept.map_err(failed)?;
        if self.solves {
            solve(&mut weights, &kept, factor).map_err(failed)?;
        } else {
            super::surgeon::keep_only(&mut weights, factor.columns(), &kept);
        }
        let mut cut = block.clone();
        cut.set_weight(role, weights)?;
        Ok(Some(cut))
    }
}

/// Gathers the Hessians of the two inputs whose columns can go.
struct Moments {
    layer: usize,
    moments: [Option<SecondMoment>; 2],
}

impl Moments {
    fn new(layer: usize) -> Self {
        Self { layer, moments: Default::default() }
    }

    /// Of the heads' outputs and of the gated activations.
    fn factors(self) -> Result<[FeedbackFactor; 2], slmc_quant::QuantError> {
        let factor = |moment: Option<SecondMoment>| {
            let moment = moment.expect("every block observes its inputs");
            FeedbackFactor::new(moment.hessian(), moment.d_in(), DAMPING)
        };
        let [heads, channels] = self.moments;
        Ok([factor(heads)?, factor(channels)?])
    }
}

impl LinearObserver for Moments {
    fn wants(&self, input: LinearInput) -> bool {
        matches!(input, LinearInput::Output | LinearInput::Down)
    }

    fn observe(
        &mut self,
        input: LinearInput,
        x: &[f32],
        d_in: usize,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let layer = self.layer;
        self.moments[usize::from(input == LinearInput::Down)]
            .get_or_insert_with(|| SecondMoment::new(format!("block {layer}, {input}"), d_in))
            .add(x)?;
        Ok(())
    }
}
