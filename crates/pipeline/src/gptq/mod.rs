//! GPTQ over a whole model: every block is rounded under the Hessians of its inputs, input by input, and what follows sees
//! the outputs of what is rounded.
//!
//! With some effort the float model runs beside the rounded one, and every layer is rounded towards giving the float
//! model's outputs from the inputs that it will really have (`slmc_quant::gptq::targets`): what layers in front have lost
//! is made up for, as far as a linear map can. Measured on an 11.5M-parameter Llama, that takes 11 % off the KL divergence of
//! Q4_K_M and 12 % off that of Q2_K.
//!
//! The algorithm itself is in `slmc_quant::gptq`; here is what needs the model. A block's tensors are written when they are
//! rounded; the embedding and the vectors are left to [`write_tensors`](crate::export::write_tensors).

mod head;
pub(crate) mod restore;
mod rounder;
mod streams;

use slmc_model::{Block, BurnDevice, Context, Head, LinearInput, host};
use slmc_quant::QuantError;
use slmc_quant::gptq::{FeedbackFactor, InputCorrection, times_inverse};

use crate::PipelineError;
use crate::export::TensorReport;
use crate::hidden::HiddenStates;
use crate::progress::Reporter;
use crate::walker::{Walk, run_block};
use crate::work::Step;
use head::head_hessian;
use streams::{Blocks, Drift, FloatStream, Gathered, Streams};

pub use rounder::{RoundTensors, Rounder};

/// What is added to the Hessian's diagonal, in parts of its median, where layers are rounded towards their own weights: more than the
/// paper's 0.01 (section 3.3, step 3).
pub(crate) const DAMPING: f64 = 0.1;

/// The same for the head, whose weights are often the embedding too and then matter in directions that the head's inputs do
/// not have.
pub(crate) const HEAD_DAMPING: f64 = 1.0;

/// Rounds and writes the matrices of all blocks and the head. Returns what became of each; the other tensors of the file are
/// still to be written. Finished blocks are kept in the rounder's work directory, and taken from there where an earlier run
/// finished them.
///
/// # Errors
/// The model cannot be run; a statistic is not finite; writing fails; the user cancels.
pub fn quantize(walk: &Walk<'_>, rounder: &dyn RoundTensors) -> Result<Vec<TensorReport>, PipelineError> {
    let work = rounder.work();
    if let Some(reports) = restore::all(rounder, walk.source.config())? {
        return Ok(reports);
    }
    let mut reports = Vec::new();
    let (source, device, reporter) = (walk.source, walk.device, walk.reporter);
    let finished = work.finished_blocks(Step::RoundedBlock);
    let mut float = None;
    let hidden = Walk { finished, ..*walk }.blocks(|layer, block, hidden, context| {
        if let (None, Some(every)) = (&float, rounder.follows_float_model_every()) {
            float = Some(FloatStream::beside(hidden, every)?);
        }
        if let (0, Some(dimensions)) = (layer, rounder.stream_dimensions()) {
            keep_dimensions(hidden, dimensions, device)?;
        }
        if !rounder.keeps_block(layer) {
            // those behind a block that stays were run with it
            if let (Some(float), true) = (&mut float, (0..layer).all(|before| !rounder.keeps_block(before))) {
                run_block(block, &mut float.states, context)?;
            }
            if work.finished(Step::RoundedBlock(layer)).is_none() {
                restore::keep(work, Step::RoundedBlock(layer), &[])?;
            }
            return Ok(());
        }
        let left_out = match &float {
            Some(_) => left_out_behind(layer, walk, rounder)?,
            None => Vec::new(),
        };
        reports.extend(match work.finished(Step::RoundedBlock(layer)) {
            Some(finished) => {
                if let Some(float) = &mut float {
                    run_block(block, &mut float.states, context)?;
                    left_out.iter().try_for_each(|block| run_block(block, &mut float.states, context))?;
                }
                rounder.prepare(block)?;
                let reports = restore::block(rounder, &finished, block)?;
                run_block(block, hidden, context)?;
                reports
            }
            None => {
                let streams = Streams::new(hidden, float.as_mut(), walk.kept_input_bytes);
                round_block(block, &left_out, streams, context, rounder, reporter)?
            }
        });
        Ok(())
    })?;
    if rounder.looks_at_end() {
        rounder.look_at_end(walk, &hidden, float.as_ref().map(|float| (&float.states, float.every)))?;
        restore::keep(work, Step::RoundedHead, &[])?;
    }
    drop(float);
    if rounder.rounds_head() {
        let head = Head::load(source, device)?;
        let hessian = head_hessian(source, &head, &hidden, walk.precision)?;
        drop(hidden);
        let report = rounder.round_head(hessian, HEAD_DAMPING)?;
        restore::keep(work, Step::RoundedHead, std::slice::from_ref(&report))?;
        reports.push(report);
    }
    Ok(reports)
}

/// Makes all other dimensions of the residual stream zero.
fn keep_dimensions(
    hidden: &mut HiddenStates,
    dimensions: &[usize],
    device: &BurnDevice,
) -> Result<(), PipelineError> {
    let width = hidden.width();
    let mut mask = vec![0.0; width];
    dimensions.iter().for_each(|dimension| mask[*dimension] = 1.0);
    let mask = host::tensor(mask, [1, 1, width], device);
    hidden.replace(|states| Ok(states * mask.clone()))
}

/// The blocks behind `layer` that are left out, up to the next one that stays.
fn left_out_behind(
    layer: usize,
    walk: &Walk<'_>,
    rounder: &dyn RoundTensors,
) -> Result<Vec<Block>, PipelineError> {
    let behind = layer + 1..walk.source.config().num_hidden_layers;
    let left_out = behind.take_while(|layer| !rounder.keeps_block(*layer));
    left_out.map(|layer| walk.load(layer)).collect()
}

/// Rounds and writes a block's matrices, leaving the streams behind it, and that of the float model behind those `left_out`, too.
fn round_block(
    block: &mut Block,
    left_out: &[Block],
    mut streams: Streams<'_>,
    context: &Context,
    rounder: &dyn RoundTensors,
    reporter: &dyn Reporter,
) -> Result<Vec<TensorReport>, PipelineError> {
    let (layer, config) = (block.layer(), block.config().clone());
    let float = rounder.follows_float_model_every().map(|_| block.clone());
    rounder.prepare(block)?;
    let mut reports = Vec::new();
    for input in LinearInput::ALL {
        if reporter.is_cancelled() {
            return Err(PipelineError::Cancelled);
        }
        let failed = |source| PipelineError::Rounding { tensor: format!("block {layer}, {input}"), source };
        // nothing has been rounded in front of the first layers, but for the embedding, unless that lost dimensions
        let has_drifted =
            layer > 0 || input != LinearInput::Attention || rounder.stream_dimensions().is_some();
        let blocks = Blocks { float: float.as_ref(), left_out, rounded: block, context };
        let Gathered { hessian, drift } = streams.gather(input, &blocks, has_drifted)?;
        let (columns, tokens, matrix) = (hessian.d_in(), hessian.tokens(), hessian.hessian());
        drop(hessian);
        let damping = |tokens| rounder.damping(columns, tokens);
        // what the float model was followed in are fewer tokens
        let followed = drift.as_ref().map_or(tokens, Drift::tokens);
        let factor = FeedbackFactor::new(matrix, columns, damping(followed)).map_err(failed)?;
        let aim = Aim::new(drift, &factor).map_err(failed)?;
        let factor = factor.with_damping(damping(tokens)).map_err(failed)?;
        warn_of_damping(layer, input, &factor, reporter);
        for role in input.roles(&config) {
            let weights = block.weight(role)?;
            let mut targets = weights.clone();
            aim.apply(&mut targets).map_err(failed)?;
            let (report, rounded) = rounder.round_linear(layer, role, weights, targets, &factor)?;
            block.set_weight(role, rounded)?;
            if let Some(bias) = rounder.added_bias(layer, role) {
                block.add_bias(role, bias)?;
            }
            reports.push(report);
        }
    }
    restore::keep(rounder.work(), Step::RoundedBlock(layer), &reports)?;
    if layer + 1 < config.num_hidden_layers || rounder.needs_end() {
        streams.leave(block, context)?;
    }
    Ok(reports)
}

/// What the layers behind an input are rounded towards.
enum Aim {
    /// Their own weights.
    Weights,
    /// The float model's outputs, of layers that share an input.
    Inputs(InputCorrection),
    /// The float model's residual stream behind the one layer, by what its weights change for that.
    Outputs(Vec<f32>),
}

impl Aim {
    fn new(drift: Option<Drift>, factor: &FeedbackFactor) -> Result<Self, QuantError> {
        Ok(match drift {
            None => Self::Weights,
            Some(Drift::Inputs(drift)) => Self::Inputs(InputCorrection::new(drift.matrix(), factor)?),
            Some(Drift::Outputs(drift)) => {
                let mut change = drift.matrix();
                drop(drift);
                times_inverse(&mut change, factor);
                Self::Outputs(change)
            }
        })
    }

    /// What to round towards in place of the weights, `[d_out, d_in]`.
    fn apply(&self, weights: &mut [f32]) -> Result<(), QuantError> {
        match self {
            Self::Weights => Ok(()),
            Self::Inputs(correction) => correction.apply(weights),
            Self::Outputs(change) => {
                weights.iter_mut().zip(change).for_each(|(w, c)| *w += c);
                Ok(())
            }
        }
    }
}

fn warn_of_damping(layer: usize, input: LinearInput, factor: &FeedbackFactor, reporter: &dyn Reporter) {
    let damping = factor.damping();
    if damping.raised > 0 {
        reporter.warn(&format!(
            "block {layer}, {input}: the Hessian could be factored only with {} of its diagonal's median added; more \
             calibration text would help",
            damping.relative
        ));
    }
}
