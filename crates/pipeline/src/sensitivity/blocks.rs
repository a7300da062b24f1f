//! What changing one block at a time costs, in mean KL divergence per token from the model as it is.

use slmc_eval::Variant;
use slmc_gguf::activation::ActivationFormat;
use slmc_model::{BurnDevice, NoObserver, Role, WeightSource};

use super::measurement::embed_all;
use super::stream::Stream;
use crate::PipelineError;
use crate::progress::{Reporter, Unit};

/// For every block, the divergences of the model of which that block's linear layers are changed, in each of `variants` ways, and
/// nothing else is. `change` gives a layer's weights (`[d_out, d_in]`) in a way from what they are. The figures do not depend on the
/// number of threads.
///
/// # Errors
/// The model cannot be run; `change` fails; the user cancels.
pub fn block_divergences(
    source: &dyn WeightSource,
    windows: &[Vec<u32>],
    device: &BurnDevice,
    reporter: &dyn Reporter,
    variants: usize,
    change: impl Fn(usize, Role, &[f32], usize) -> Result<Vec<f32>, PipelineError>,
) -> Result<Vec<Vec<f64>>, PipelineError> {
    let stream = Stream::new(source, windows.first().map_or(0, Vec::len), device, reporter)?;
    let mut states = embed_all(source, windows, device)?;
    let original = stream.finish(0, vec![states.clone()], ActivationFormat::F32)?.remove(0);
    let blocks = source.config().num_hidden_layers;
    reporter.begin("Measuring", blocks as u64, Unit::Steps);
    let mut divergences = Vec::with_capacity(blocks);
    for layer in 0..blocks {
        reporter.status(&format!("block {layer}"));
        let mut block = stream.block(layer)?;
        let behind = stream.step(&block, &states, &mut NoObserver)?;
        let weights: Vec<Vec<f32>> =
            Role::LINEAR.into_iter().map(|role| block.weight(role)).collect::<Result<_, _>>()?;
        let mut changed = Vec::new();
        for variant in 0..variants {
            for (role, weights) in Role::LINEAR.into_iter().zip(&weights) {
                block.set_weight(role, change(layer, role, weights, variant)?)?;
            }
            changed.push(stream.step(&block, &states, &mut NoObserver)?);
        }
        drop(block);
        let finished = stream.finish(layer + 1, changed, ActivationFormat::F32)?;
        let variants: Vec<_> = finished.into_iter().map(|states| Variant { states, head: None }).collect();
        divergences.push(stream.divergences(&original, &variants)?);
        states = behind;
        reporter.advance(1);
    }
    reporter.end();
    Ok(divergences)
}
