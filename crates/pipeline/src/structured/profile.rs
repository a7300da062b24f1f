//! The whole model, looked at once: what each block does to the stream, and the moments of what its heads and channels give and of what
//! is read of the stream.

use std::error::Error;

use slmc_calibration::statistics::ColumnMoments;
use slmc_model::{Head, HostView, LinearInput, LinearObserver, ModelConfig, Role, Tensor, TensorId};
use slmc_prune::structured::{InputMoments, StreamMoments};

use super::reader::{Reader, StreamHessian};
use crate::PipelineError;
use crate::walker::Walk;

/// What is known of the original.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// Block by block.
    pub layers: Vec<LayerProfile>,
    /// What is read of the residual stream: by every block's attention and its MLP, then by the head. Empty where no dimensions can go.
    pub stream: Vec<StreamMoments>,
    /// The stream's dimensions, those that the others tell best first; empty where nobody asked for it.
    pub told_by_others: Vec<usize>,
}

/// What is known of one block.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LayerProfile {
    /// 1 − E\[cos(x, y)\] of the residual stream in front of the block and behind it: block influence (Men et al., "ShortGPT",
    /// arXiv 2403.03853, section 3.1).
    pub influence: f64,
    /// Of the heads' outputs, `[query_size]`.
    pub heads: InputMoments,
    /// Of the gated activations, `[intermediate_size]`.
    pub channels: InputMoments,
}

impl LayerProfile {
    /// Means of the inputs of one of the two layers that end a half of the block.
    pub fn means(&self, role: Role) -> &[f64] {
        if role == Role::Output { &self.heads.means } else { &self.channels.means }
    }
}

/// How much there is to know of the residual stream's dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StreamDetail {
    /// Nothing: they stay.
    Nothing,
    /// Moments.
    Moments,
    /// Moments, and what dimensions tell of each other.
    Hessians,
}

impl Profile {
    /// Of a model through which nothing was run: as many blocks, and nothing known of them.
    pub fn unseen(config: &ModelConfig) -> Self {
        Self { layers: vec![LayerProfile::default(); config.num_hidden_layers], ..Self::default() }
    }

    /// The blocks that may go, the least influential first.
    pub fn dispensable(&self, keep: &[usize]) -> Vec<usize> {
        let mut layers: Vec<usize> = (0..self.layers.len()).filter(|layer| !keep.contains(layer)).collect();
        layers.sort_by(|a, b| self.layers[*a].influence.total_cmp(&self.layers[*b].influence));
        layers
    }

    /// How much it knows of the stream.
    pub fn detail(&self) -> StreamDetail {
        match (self.stream.is_empty(), self.told_by_others.is_empty()) {
            (true, _) => StreamDetail::Nothing,
            (false, true) => StreamDetail::Moments,
            (false, false) => StreamDetail::Hessians,
        }
    }

    /// What a norm reads of the stream: that of a block, or the one in front of the head.
    pub fn reader(&self, layer: Option<usize>, norm: Role) -> Option<&StreamMoments> {
        match layer {
            None => self.stream.last(),
            Some(layer) => self.stream.get(2 * layer + usize::from(norm == Role::PostNorm)),
        }
    }
}

/// Runs the calibration sequences through the original.
///
/// # Errors
/// It cannot be run; an activation is not finite; the user cancels.
pub fn profile(walk: &Walk<'_>, detail: StreamDetail) -> Result<Profile, PipelineError> {
    let (mut profile, mut mean) = (Profile::default(), StreamHessian::default());
    let hidden = walk.blocks(|layer, block, hidden, context| {
        let mut seen = Seen { layer, moments: Default::default(), readers: None };
        if detail > StreamDetail::Nothing {
            let reader = |role| Ok::<_, PipelineError>(Reader::new(layer, block.weight(role)?, detail));
            seen.readers = Some([reader(Role::InputNorm)?, reader(Role::PostNorm)?]);
        }
        let mut cosines = Cosines::default();
        for index in 0..hidden.len() {
            hidden.update(index, |states| {
                let before = states.clone();
                let after = block.forward(states, context, &mut seen)?;
                cosines.add(&before, &after);
                Ok(after)
            })?;
        }
        let [heads, channels] =
            seen.moments.map(|moments| means(&moments.expect("every block observes its inputs")));
        profile.layers.push(LayerProfile { influence: 1.0 - cosines.mean(), heads, channels });
        for reader in seen.readers.into_iter().flatten() {
            let (moments, hessian) = reader.finish();
            profile.stream.push(moments);
            hessian.iter().for_each(|hessian| mean.add(hessian));
        }
        Ok(())
    })?;
    if detail > StreamDetail::Nothing {
        let (source, head) = (walk.source, Head::load(walk.source, walk.device)?);
        let norm = source.load(TensorId::global(Role::FinalNorm))?.values;
        let mut reader = Reader::new(profile.layers.len(), norm, detail);
        hidden.each(|states| {
            let [sequences, seq_len, width] = states.dims();
            let normed = head.normalize(&states.reshape([sequences * seq_len, width]));
            Ok(reader.add(&HostView::of(&normed))?)
        })?;
        let (moments, hessian) = reader.finish();
        profile.stream.push(moments);
        hessian.iter().for_each(|hessian| mean.add(hessian));
        let failed = |source| PipelineError::Pruning { tensor: "the residual stream".into(), source };
        profile.told_by_others = mean.ranked(source.config().hidden_size).map_err(failed)?;
    }
    Ok(profile)
}

/// Means of what was summed.
pub(super) fn means(moments: &ColumnMoments) -> InputMoments {
    let tokens = moments.tokens().max(1) as f64;
    let mean = |sums: Vec<f64>| sums.into_iter().map(|sum| sum / tokens).collect();
    InputMoments { means: mean(moments.sum()), second_moments: mean(moments.sum_squares()) }
}

/// Gathers the moments of the two inputs whose columns can go, and of what is read of the stream where that is wanted.
struct Seen {
    layer: usize,
    moments: [Option<ColumnMoments>; 2],
    readers: Option<[Reader; 2]>,
}

impl LinearObserver for Seen {
    fn wants(&self, input: LinearInput) -> bool {
        self.readers.is_some() || matches!(input, LinearInput::Output | LinearInput::Down)
    }

    fn observe(
        &mut self,
        input: LinearInput,
        x: &[f32],
        d_in: usize,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        if let (Some([attention, mlp]), LinearInput::Attention | LinearInput::Mlp) =
            (&mut self.readers, input)
        {
            return Ok(if input == LinearInput::Attention { attention } else { mlp }.add(x)?);
        }
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
