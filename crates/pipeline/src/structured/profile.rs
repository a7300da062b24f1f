//! The whole model, looked at once: what each block does to the stream, and the moments of what its heads and channels give.

use std::error::Error;

use serde::{Deserialize, Serialize};
use slmc_calibration::statistics::ColumnMoments;
use slmc_model::{HostView, LinearInput, LinearObserver, Tensor};
use slmc_prune::structured::InputMoments;

use crate::PipelineError;
use crate::walker::Walk;

/// What is known of every block of the original.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Block by block.
    pub layers: Vec<LayerProfile>,
}

/// What is known of one block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerProfile {
    /// 1 − E\[cos(x, y)\] of the residual stream in front of the block and behind it: block influence (Men et al., "ShortGPT",
    /// arXiv 2403.03853, section 3.1).
    pub influence: f64,
    /// Of the heads' outputs, `[query_size]`.
    pub heads: InputMoments,
    /// Of the gated activations, `[intermediate_size]`.
    pub channels: InputMoments,
}

impl Profile {
    /// The blocks that may go, the least influential first.
    pub fn dispensable(&self, keep: &[usize]) -> Vec<usize> {
        let mut layers: Vec<usize> = (0..self.layers.len()).filter(|layer| !keep.contains(layer)).collect();
        layers.sort_by(|a, b| self.layers[*a].influence.total_cmp(&self.layers[*b].influence));
        layers
    }
}

/// Runs the calibration sequences through the original.
///
/// # Errors
/// It cannot be run; an activation is not finite; the user cancels.
pub fn profile(walk: &Walk<'_>) -> Result<Profile, PipelineError> {
    let mut layers = Vec::new();
    walk.blocks(|layer, block, hidden, context| {
        let mut seen = Seen { layer, moments: Default::default() };
        let mut cosines = Cosines::default();
        for index in 0..hidden.len() {
            hidden.update(index, |states| {
                let before = states.clone();
                let after = block.forward(states, context, &mut seen)?;
                cosines.add(&before, &after);
                Ok(after)
            })?;
        }
        let [heads, channels] = seen.moments.map(|moments| {
            let moments = moments.expect("every block observes its inputs");
            let tokens = moments.tokens().max(1) as f64;
            let mean = |sums: Vec<f64>| sums.into_iter().map(|sum| sum / tokens).collect();
            InputMoments { means: mean(moments.sum()), second_moments: mean(moments.sum_squares()) }
        });
        layers.push(LayerProfile { influence: 1.0 - cosines.mean(), heads, channels });
        Ok(())
    })?;
    Ok(Profile { layers })
}

/// Gathers the moments of the two inputs whose columns can go.
struct Seen {
    layer: usize,
    moments: [Option<ColumnMoments>; 2],
}

impl LinearObserver for Seen {
    fn wants(&self, input: LinearInput) -> bool {
        matches!(input, LinearInput::Output | LinearInput::Down)
    }

    fn observe(
        &mut self,
        input: LinearInput,
        x: &[f32],
        d_in: usize,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let layer = self.layer;
        self.moments[usize::from(input == LinearInput::Down)]
            .get_or_insert_with(|| ColumnMoments::new(format!("block {layer}, {input}"), d_in))
            .add(x)?;
        Ok(())
    }
}

#[derive(Default)]
struct Cosines {
    sum: f64,
    tokens: usize,
}

impl Cosines {
    fn add(&mut self, before: &Tensor<3>, after: &Tensor<3>) {
        let width = before.dims()[2];
        let (before, after) = (HostView::of(before), HostView::of(after));
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        for (x, y) in before.chunks_exact(width).zip(after.chunks_exact(width)) {
            let norms = (dot(x, x) * dot(y, y)).sqrt();
            self.sum += if norms > 0.0 { dot(x, y) / norms } else { 1.0 };
            self.tokens += 1;
        }
    }

    fn mean(&self) -> f64 {
        self.sum / self.tokens.max(1) as f64
    }
}
