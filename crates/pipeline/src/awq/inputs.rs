//! What a block's linear layers are fed with: statistics over all calibration tokens, and some of the inputs themselves.

use slmc_calibration::statistics::ColumnMoments;
use slmc_model::{Block, Context, LinearInput, LinearObserver};
use slmc_quant::awq::GroupKind;

use crate::PipelineError;
use crate::walker::HiddenStates;

/// Tokens on which candidates are compared. The first sequences are taken: the seed has shuffled them.
const OBJECTIVE_TOKENS: usize = 4096;

/// Mean |x| and mean x² of every column, `[d_in]`.
#[derive(Clone, Debug)]
pub struct ColumnStatistics {
    /// E|x|.
    pub mean_abs: Vec<f32>,
    /// E\[x²\].
    pub second_moments: Vec<f32>,
}

/// Gathers [`ColumnStatistics`], in f64.
pub struct Collector {
    moments: ColumnMoments,
}

impl Collector {
    /// For inputs of `d_in` columns; `name` is what an error calls them.
    pub fn new(d_in: usize, name: &str) -> Self {
        Self { moments: ColumnMoments::new(name, d_in) }
    }

    /// Adds inputs `[tokens, d_in]`.
    ///
    /// # Errors
    /// NaN or infinity among them.
    pub fn add(&mut self, x: &[f32]) -> Result<(), PipelineError> {
        Ok(self.moments.add(x)?)
    }

    /// The means.
    pub fn finish(&self) -> ColumnStatistics {
        ColumnStatistics { mean_abs: self.moments.mean_abs(), second_moments: self.moments.second_moments() }
    }
}

/// The four inputs of a block: attention, its output projection, MLP, its down projection.
pub struct BlockInputs {
    statistics: [ColumnStatistics; 4],
    samples: [Vec<f32>; 4],
    /// Sequences among the samples.
    pub sequences: usize,
    /// Tokens a sequence.
    pub seq_len: usize,
}

impl BlockInputs {
    /// Runs the hidden states through the block, replacing them by its outputs, and gathers what passes.
    ///
    /// # Errors
    /// The block cannot be run; NaN or infinity in its inputs.
    pub fn collect(
        layer: usize,
        block: &Block,
        hidden: &mut HiddenStates,
        context: &Context,
    ) -> Result<Self, PipelineError> {
        let mut observer =
            Observer { layer, collectors: Default::default(), samples: Default::default(), keep: false };
        let (mut sequences, mut seq_len) = (0, 0);
        for states in hidden.iter_mut() {
            let [batch, length, _] = states.dims();
            observer.keep = sequences * length < OBJECTIVE_TOKENS;
            if observer.keep {
                sequences += batch;
                seq_len = length;
            }
            *states = block.forward(states.clone(), context, &mut observer)?;
        }
        let statistics =
            observer.collectors.map(|c| c.expect("every block observes its four inputs").finish());
        Ok(Self { statistics, samples: observer.samples, sequences, seq_len })
    }

    /// Statistics of the inputs that the group's consumers share.
    pub fn statistics(&self, group: GroupKind) -> &ColumnStatistics {
        &self.statistics[position(group)]
    }

    /// Some of those inputs, `[sequences · seq_len, d_in]`.
    pub fn samples(&self, group: GroupKind) -> &[f32] {
        &self.samples[position(group)]
    }
}

fn position(group: GroupKind) -> usize {
    let input = match group {
        GroupKind::AttentionInput => LinearInput::Attention,
        GroupKind::AttentionOutput => LinearInput::Output,
        GroupKind::FeedForwardInput => LinearInput::Mlp,
        GroupKind::FeedForwardDown => LinearInput::Down,
    };
    input.index()
}

struct Observer {
    layer: usize,
    collectors: [Option<Collector>; 4],
    samples: [Vec<f32>; 4],
    keep: bool,
}

impl LinearObserver for Observer {
    fn observe(
        &mut self,
        input: LinearInput,
        x: &[f32],
        d_in: usize,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let position = input.index();
        let layer = self.layer;
        self.collectors[position]
            .get_or_insert_with(|| Collector::new(d_in, &format!("block {layer}, {input}")))
            .add(x)?;
        if self.keep {
            self.samples[position].extend_from_slice(x);
        }
        Ok(())
    }
}
