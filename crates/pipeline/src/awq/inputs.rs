//! What a block's linear layers are fed with: statistics over all calibration tokens, and some of the inputs themselves.

use std::sync::Arc;

use slmc_calibration::statistics::{BlockMoments, ColumnMoments};
use slmc_model::{Block, Context, LinearInput, LinearObserver};
use slmc_quant::GramBlocks;
use slmc_quant::awq::GroupKind;

use super::groups;
use crate::PipelineError;
use crate::hidden::HiddenStates;
use crate::moments::InputMoments;

/// Tokens on which candidates are compared. The first sequences are taken: the seed has shuffled them.
const OBJECTIVE_TOKENS: usize = 4096;

/// Mean |x| and mean x² of every column, `[d_in]`, and where they are wanted the mean products of neighbouring ones.
#[derive(Clone, Debug)]
pub struct ColumnStatistics {
    /// E|x|.
    pub mean_abs: Vec<f32>,
    /// E\[x²\].
    pub second_moments: Vec<f32>,
    /// E\[x xᵀ\] in runs of columns.
    pub gram: Option<Arc<GramBlocks>>,
}

impl ColumnStatistics {
    fn of(moments: &ColumnMoments, products: Option<BlockMoments>, run_len: Option<usize>) -> Self {
        let gram = products.zip(run_len).and_then(|(products, len)| GramBlocks::new(len, products.means()));
        Self {
            mean_abs: moments.mean_abs(),
            second_moments: moments.second_moments(),
            gram: gram.map(Arc::new),
        }
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
    /// Runs the hidden states through the block, replacing them by its outputs, and gathers what passes; products in runs of
    /// `run_len` columns, where that is given and divides them.
    ///
    /// # Errors
    /// The block cannot be run; NaN or infinity in its inputs.
    pub fn collect(
        layer: usize,
        block: &Block,
        hidden: &mut HiddenStates,
        context: &Context,
        run_len: Option<usize>,
    ) -> Result<Self, PipelineError> {
        let mut observer = Observer {
            layer,
            moments: InputMoments::new(layer),
            run_len,
            products: Default::default(),
            samples: Default::default(),
            keep: false,
        };
        let (mut sequences, mut seq_len) = (0, 0);
        hidden.replace(|states| {
            let [batch, length, _] = states.dims();
            observer.keep = sequences * length < OBJECTIVE_TOKENS;
            if observer.keep {
                sequences += batch;
                seq_len = length;
            }
            Ok(block.forward(states, context, &mut observer)?)
        })?;
        let Observer { moments, mut products, samples, .. } = observer;
        let mut input = 0;
        let statistics = moments.finish().map(|moments| {
            let products = products[input].take();
            input += 1;
            ColumnStatistics::of(&moments, products, run_len)
        });
        Ok(Self { statistics, samples, sequences, seq_len })
    }

    /// Statistics of the inputs that the group's consumers share.
    pub fn statistics(&self, group: GroupKind) -> &ColumnStatistics {
        &self.statistics[groups::input(group).index()]
    }

    /// Some of those inputs, `[sequences · seq_len, d_in]`.
    pub fn samples(&self, group: GroupKind) -> &[f32] {
        &self.samples[groups::input(group).index()]
    }
}

struct Observer {
    layer: usize,
    moments: InputMoments,
    run_len: Option<usize>,
    products: [Option<BlockMoments>; 4],
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
        self.moments.observe(input, x, d_in)?;
        if let Some(len) = self.run_len.filter(|len| d_in.is_multiple_of(*len)) {
            let layer = self.layer;
            self.products[input.index()]
                .get_or_insert_with(|| BlockMoments::new(format!("block {layer}, {input}"), d_in, len))
                .add(x)?;
        }
        if self.keep {
            self.samples[input.index()].extend_from_slice(x);
        }
        Ok(())
    }
}
