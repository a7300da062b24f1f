//! What changing one block at a time costs, in mean KL divergence per token from the model as it is.

use slmc_eval::Variant;
use slmc_gguf::activation::ActivationFormat;
use slmc_model::{Block, LinearInput, NoObserver, Role};
use slmc_quant::gptq::FeedbackFactor;

use super::hessians::Moments;
use super::measurement::embed_all;
use super::stream::{Stream, WindowStates};
use crate::PipelineError;
use crate::walker::Walk;

/// A linear layer to be changed.
pub struct Layer<'a> {
    /// The block's number.
    pub block: usize,
    /// Which of the block's.
    pub role: Role,
    /// `[d_out, d_in]`.
    pub weights: &'a [f32],
    /// Of its inputs, where it was asked for.
    pub factor: Option<&'a FeedbackFactor>,
}

/// For every block, the divergences of the model of which that block's linear layers are changed, in each of `variants` ways, and
/// nothing else is, on `windows`, which `walk` does not go over. `change` gives a layer's weights in a way from what they are, with the
/// Hessian of its inputs over `walk`'s sequences under `damping`, if there is one. The figures do not depend on the number of threads.
///
/// # Errors
/// The model cannot be run; `change` fails; the user cancels.
pub fn block_divergences(
    walk: &Walk<'_>,
    windows: &[Vec<u32>],
    damping: Option<f64>,
    variants: usize,
    change: impl Fn(&Layer<'_>, usize) -> Result<Vec<f32>, PipelineError>,
) -> Result<Vec<Vec<f64>>, PipelineError> {
    let Walk { source, device, reporter, .. } = *walk;
    let stream = Stream::new(source, windows.first().map_or(0, Vec::len), device, reporter)?;
    let mut states = embed_all(source, windows, device)?;
    let original = stream.finish(0, vec![states.clone()], ActivationFormat::F32)?.remove(0);
    let mut divergences = Vec::new();
    // without Hessians there is nothing to gather on the way
    let sequences = if damping.is_some() { walk.sequences } else { &walk.sequences[..1] };
    Walk { sequences, ..*walk }.blocks(|layer, block, hidden, context| {
        let mut moments = Moments::new(layer);
        if damping.is_some() {
            hidden.replace(|states| Ok(block.forward(states, context, &mut moments)?))?;
        }
        let behind = stream.step(block, &states, &mut NoObserver)?;
        let mut changed: Vec<Vec<(Role, Vec<f32>)>> = (0..variants).map(|_| Vec::new()).collect();
        for input in LinearInput::ALL {
            let failed =
                |source| PipelineError::Rounding { tensor: format!("block {layer}, {input}"), source };
            let factor = damping.map(|damping| moments.factor(input, damping)).transpose().map_err(failed)?;
            for role in input.roles(source.config()) {
                let weights = block.weight(role)?;
                let to_change = Layer { block: layer, role, weights: &weights, factor: factor.as_ref() };
                for (variant, changed) in changed.iter_mut().enumerate() {
                    changed.push((role, change(&to_change, variant)?));
                }
            }
        }
        let outputs = changed.into_iter().map(|layers| step_changed(&stream, block, layers, &states));
        let outputs = outputs.collect::<Result<Vec<_>, _>>()?;
        let finished = stream.finish(layer + 1, outputs, ActivationFormat::F32)?;
        let finished: Vec<_> = finished.into_iter().map(|states| Variant { states, head: None }).collect();
        divergences.push(stream.divergences(&original, &finished)?);
        states = behind;
        Ok(())
    })?;
    Ok(divergences)
}

/// The windows behind a block with other layers, which it keeps.
fn step_changed(
    stream: &Stream<'_>,
    block: &mut Block,
    layers: Vec<(Role, Vec<f32>)>,
    states: &WindowStates,
) -> Result<WindowStates, PipelineError> {
    for (role, weights) in layers {
        block.set_weight(role, weights)?;
    }
    stream.step(block, states, &mut NoObserver)
}
