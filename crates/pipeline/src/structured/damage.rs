//! What removing some of one kind does to the whole model: its divergence from the original, measured.
//!
//! Beside the original run copies of it, each with fewer of one kind, chosen and solved for in one go on the original's statistics.

use serde::Serialize;
use slmc_calibration::statistics::SecondMoment;
use slmc_eval::Variant;
use slmc_gguf::activation::ActivationFormat;
use slmc_model::{Block, LinearInput, LinearObserver, ModelConfig, NoObserver, Role, Tensor, embed, host};
use slmc_prune::PruneError;
use slmc_prune::structured::{Kind, solve};
use slmc_quant::gptq::FeedbackFactor;

use super::cutting::keep_only;
use super::end::{curvature, with_end};
use super::surgeon::{compensation, shrinkage};
use super::{Choice, Profile, Ranked, Shape};
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

/// How what is measured is cut.
#[derive(Clone, Copy)]
pub struct Cutting<'a> {
    /// How channels and heads are chosen.
    pub choice: Choice,
    /// Whether what stays is solved for.
    pub solves: bool,
    /// Whether biases make up for the means of what goes.
    pub biases: bool,
    /// What is known of the original.
    pub profile: &'a Profile,
    /// What may go.
    pub ranked: Ranked<'a>,
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
    how: Cutting<'_>,
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
    let mut copies = Vec::new();
    for &(kind, kept) in removals {
        let shape = Shape::new(full.with(kind, kept), config, how.ranked);
        let mut states = embedded.clone();
        if let Some(dimensions) = &shape.dimensions {
            states = states.into_iter().map(|states| keep_dimensions(states, dimensions)).collect();
        }
        copies.push(Copy { kind, kept, shape, states });
    }
    let wants = |kinds: &[Kind]| removals.iter().any(|(kind, _)| kinds.contains(kind));
    let solved = |kinds: &[Kind]| wants(kinds) && (how.solves || how.choice.needs_hessians());
    let gathered = LinearInput::ALL.map(|input| match input {
        LinearInput::Attention | LinearInput::Mlp => wants(&[Kind::HiddenSize]) && how.solves,
        LinearInput::Output => solved(&[Kind::KeyValueHeads, Kind::QueryHeads]),
        LinearInput::Down => solved(&[Kind::Channels]),
    });
    walk.blocks(|layer, block, hidden, context| {
        let mut moments = Moments { layer, gathered, moments: Default::default() };
        hidden.replace(|states| Ok(block.forward(states, context, &mut moments)?))?;
        let factors = moments
            .factors()
            .map_err(|source| PipelineError::Rounding { tensor: format!("block {layer}"), source })?;
        for copy in &mut copies {
            if !copy.shape.layers.contains(&layer) {
                continue;
            }
            let cut = how.cut(block, config, copy, &factors)?;
            copy.states = stream.step(cut.as_ref().unwrap_or(block), &copy.states, &mut NoObserver)?;
        }
        original = stream.step(block, &original, &mut NoObserver)?;
        Ok(())
    })?;
    let mut states: Vec<WindowStates> = vec![original];
    states.extend(copies.iter_mut().map(|copy| std::mem::take(&mut copy.states)));
    let mut states = stream.finish(config.num_hidden_layers, states, ActivationFormat::F32)?.into_iter();
    let original = states.next().expect("the original is first");
    // the end is solved for in what is written, and so it is in what is measured; of a head of its own, which would take more tokens
    // than there are here, the norm in front stands for it
    let ends = wants(&[Kind::HiddenSize]) && how.solves;
    let curvature = ends.then(|| curvature(walk)).transpose()?;
    let mut variants = Vec::new();
    for (states, copy) in states.zip(&copies) {
        let states = match (&copy.shape.dimensions, &curvature) {
            (None, _) => states,
            (Some(_), None) => states * how.shrinkage(&copy.shape, None, Role::FinalNorm),
            (Some(kept), Some(curvature)) => {
                let factor = how.shrinkage(&copy.shape, None, Role::FinalNorm);
                with_end(&original, states * factor, curvature, kept)?
            }
        };
        variants.push(Variant { states, head: None });
    }
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

/// What is known of the inputs of a block's linear layers.
type Factors = [Option<FeedbackFactor>; 4];

impl Cutting<'_> {
    /// The block with zeros where the copy has nothing; `None` where it has everything.
    fn cut(
        &self,
        block: &Block,
        config: &ModelConfig,
        copy: &Copy,
        factors: &Factors,
    ) -> Result<Option<Block>, PipelineError> {
        let role = match copy.kind {
            Kind::Layers => return Ok(None),
            Kind::HiddenSize => {
                return self.without_dimensions(block, config, &copy.shape, factors).map(Some);
            }
            Kind::KeyValueHeads | Kind::QueryHeads => Role::Output,
            Kind::Channels => Role::Down,
        };
        let (layer, mut cut, mut weights) = (block.layer(), block.clone(), block.weight(role)?);
        let input = if role == Role::Output { LinearInput::Output } else { LinearInput::Down };
        let (profile, factor) = (&self.profile.layers[layer], factors[input.index()].as_ref());
        let place = (layer, role, config, copy.shape.widths);
        let failed = failed(layer, role);
        let kept = self.choice.columns(&weights, factor, profile, place).map_err(&failed)?;
        let whole = weights.clone();
        match factor {
            Some(factor) if self.solves => solve(&mut weights, &kept, factor).map_err(&failed)?,
            _ => keep_only(&mut weights, config.shape(role)[1], (None, Some(&kept))),
        }
        if self.biases {
            cut.add_bias(role, compensation(&whole, &weights, profile.means(role)))?;
        }
        cut.set_weight(role, weights)?;
        Ok(Some(cut))
    }

    /// The block in which fewer dimensions of the stream are read and written.
    fn without_dimensions(
        &self,
        block: &Block,
        config: &ModelConfig,
        shape: &Shape,
        factors: &Factors,
    ) -> Result<Block, PipelineError> {
        let mut cut = block.clone();
        for role in [Role::InputNorm, Role::PostNorm] {
            let factor = self.shrinkage(shape, Some(block.layer()), role);
            let scaled = block.weight(role)?.into_iter().map(|weight| weight * factor).collect();
            cut.set_weight(role, scaled)?;
        }
        for input in LinearInput::ALL {
            for role in input.roles(config) {
                let mut weights = block.weight(role)?;
                match (shape.staying(role), &factors[input.index()]) {
                    ((None, Some(kept)), Some(factor)) if self.solves => {
                        solve(&mut weights, kept, factor).map_err(failed(block.layer(), role))?;
                    }
                    (staying, _) => keep_only(&mut weights, config.shape(role)[1], staying),
                }
                cut.set_weight(role, weights)?;
                if let Some(bias) = role.bias().filter(|bias| config.has(*bias)) {
                    let mut values = block.weight(bias)?;
                    keep_only(&mut values, 1, shape.staying(bias));
                    cut.set_weight(bias, values)?;
                }
            }
        }
        Ok(cut)
    }

    /// What a norm is multiplied by for the dimensions that went, their number aside.
    fn shrinkage(&self, shape: &Shape, layer: Option<usize>, norm: Role) -> f32 {
        shrinkage((shape, self.solves), self.profile, layer, norm)
    }
}

fn failed(layer: usize, role: Role) -> impl Fn(PruneError) -> PipelineError {
    move |source| PipelineError::Pruning { tensor: format!("{role:?} of block {layer}"), source }
}

fn keep_dimensions(states: Tensor<3>, dimensions: &[usize]) -> Tensor<3> {
    let (shape, device) = (states.dims(), states.device());
    let mut values = host::into_vec(states);
    keep_only(&mut values, shape[2], (None, Some(dimensions)));
    host::tensor(values, shape, &device)
}

/// Gathers the Hessians of inputs.
struct Moments {
    layer: usize,
    gathered: [bool; 4],
    moments: [Option<SecondMoment>; 4],
}

impl Moments {
    fn factors(self) -> Result<Factors, slmc_quant::QuantError> {
        let mut factors = Factors::default();
        for (factor, moment) in factors.iter_mut().zip(self.moments) {
            if let Some(moment) = moment {
                *factor = Some(FeedbackFactor::new(moment.hessian(), moment.d_in(), DAMPING)?);
            }
        }
        Ok(factors)
    }
}

impl LinearObserver for Moments {
    fn wants(&self, input: LinearInput) -> bool {
        self.gathered[input.index()]
    }

    fn observe(
        &mut self,
        input: LinearInput,
        x: &[f32],
        d_in: usize,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let layer = self.layer;
        self.moments[input.index()]
            .get_or_insert_with(|| SecondMoment::new(format!("block {layer}, {input}"), d_in))
            .add(x)?;
        Ok(())
    }
}
