//! AWQ over a whole model: finds the scales of every block, and what each column's rounding error weighs.
//!
//! Source: Lin et al., arXiv 2306.00978. The algorithm itself is in `slmc_quant::awq`; here is what needs the model: the
//! activations, and the output error of the attention and the MLP under candidate weights.
//!
//! Rescaling leaves the float model as it is, so the hidden states are those of the float model throughout.

mod groups;
mod inputs;
mod objective;
mod stored;

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use slmc_model::{Block, Context, Head, WeightSource};
use slmc_quant::GramBlocks;
use slmc_quant::awq::{GridPlan, GroupKind, GroupedHeads, Producer, ScaleGroup, scaled_second_moments};

use crate::PipelineError;
use crate::hidden::HiddenStates;
use crate::moments::head_moments;
use crate::rescaling::Rescaling;
use crate::walker::{Walk, run_block};
use crate::work::{Step, Work};
use groups::scale_groups;
use inputs::{BlockInputs, ColumnStatistics};
use objective::search_group;

pub use objective::SearchedGroup;

/// What calibration found.
#[derive(Debug, Default)]
pub struct Calibrated {
    /// The scales.
    pub rescaling: Rescaling,
    /// By GGUF name: the second moments of each matrix's inputs after rescaling, `[d_in]`.
    pub importance: HashMap<String, Vec<f32>>,
    /// By GGUF name: the mean products of each matrix's inputs after rescaling, in runs of columns, where rounding wants them.
    pub grams: HashMap<String, Arc<GramBlocks>>,
    /// What the search did, group by group.
    pub groups: Vec<GroupReport>,
}

/// What is known of a matrix's inputs.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// Their second moments, `[d_in]`.
    pub importance: Option<&'a [f32]>,
    /// Their mean products, in runs of columns.
    pub gram: Option<&'a GramBlocks>,
}

/// One searched group.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GroupReport {
    /// The block.
    pub layer: usize,
    /// Which of its groups.
    pub group: GroupKind,
    /// What was found.
    #[serde(flatten)]
    pub found: SearchedGroup,
}

/// Searches the scales of all blocks on calibration sequences, where the plan's method rescales, and gathers every input's
/// second moments. With a work directory, what a block gave is kept there, and taken from there where an earlier run found it.
///
/// # Errors
/// The model cannot be run; a statistic is not finite; the work directory cannot be read or written; the user cancels.
pub fn calibrate<P: GridPlan>(
    walk: &Walk<'_>,
    plan: &P,
    work: Option<&Work>,
) -> Result<Calibrated, PipelineError> {
    let mut calibrated = Calibrated::default();
    let finished = work.map_or(0, |work| work.finished_blocks(Step::CalibratedBlock));
    let found = |step| work.and_then(|work| work.finished(step));
    for layer in 0..finished {
        if let Some(finished) = found(Step::CalibratedBlock(layer)) {
            calibrated.restore(&finished)?;
        }
    }
    if let Some(finished) = found(Step::CalibratedHead) {
        calibrated.restore(&finished)?;
        return Ok(calibrated);
    }
    let source = walk.source;
    let hidden = Walk { finished, ..*walk }.blocks(|layer, block, hidden, context| {
        if layer < finished {
            return run_block(block, hidden, context);
        }
        let inputs = BlockInputs::collect(layer, block, hidden, context, plan.run_len())?;
        calibrated.search_block(source, block, &inputs, context, plan)?;
        match work {
            Some(work) => Ok(calibrated.store_block(layer, work)?),
            None => Ok(()),
        }
    })?;
    let head = Head::load(source, walk.device)?;
    calibrated.weigh_head(source, &head, &hidden, work)?;
    Ok(calibrated)
}

impl Calibrated {
    /// What is known of the inputs of a tensor, by its GGUF name.
    pub fn of(&self, name: &str) -> Inputs<'_> {
        Inputs {
            importance: self.importance.get(name).map(Vec::as_slice),
            gram: self.grams.get(name).map(Arc::as_ref),
        }
    }

    fn search_block<P: GridPlan>(
        &mut self,
        source: &dyn WeightSource,
        block: &mut Block,
        inputs: &BlockInputs,
        context: &Context,
        plan: &P,
    ) -> Result<(), PipelineError> {
        let config = source.config();
        let layer = block.layer();
        let heads =
            GroupedHeads::new(config.num_attention_heads, config.num_key_value_heads, config.head_dim)
                .map_err(|source| PipelineError::Rounding { tensor: format!("blk.{layer}"), source })?;
        for group in scale_groups(config, layer) {
            let statistics = inputs.statistics(group.kind);
            let mut columns = None;
            if plan.rescales() && group.is_applicable(plan) {
                let found = search_group(&group, block, inputs, &heads, context, plan)?;
                let producer_scales = &found.scales;
                let expanded = match group.kind {
                    GroupKind::AttentionOutput => heads.expand(producer_scales).map_err(|source| {
                        PipelineError::Rounding { tensor: group.consumers[0].clone(), source }
                    })?,
                    _ => producer_scales.clone(),
                };
                if found.is_scaled() {
                    self.fold(&group, producer_scales, &expanded);
                }
                columns = Some(expanded);
                self.groups.push(GroupReport { layer, group: group.kind, found });
            }
            self.weigh(&group, statistics, columns.as_deref())?;
        }
        Ok(())
    }

    /// Divides the producer by the scales and multiplies the consumers' columns.
    fn fold(&mut self, group: &ScaleGroup, producer_scales: &[f32], expanded: &[f32]) {
        match &group.producer {
            None => unreachable!("groups without a producer are not searched"),
            Some(Producer::Norm { weight }) => self.rescaling.divide_rows(weight, producer_scales),
            Some(Producer::Rows { weight, rows, of, bias }) => {
                let mut scales = vec![1.0; *of];
                scales[rows.clone()].copy_from_slice(producer_scales);
                self.rescaling.divide_rows(weight, &scales);
                if let Some(bias) = bias {
                    self.rescaling.divide_rows(bias, producer_scales);
                }
            }
        }
        for consumer in &group.consumers {
            self.rescaling.multiply_columns(consumer, expanded);
        }
    }

    fn weigh(
        &mut self,
        group: &ScaleGroup,
        statistics: &ColumnStatistics,
        columns: Option<&[f32]>,
    ) -> Result<(), PipelineError> {
        let moments = match columns {
            None => statistics.second_moments.clone(),
            Some(scales) => scaled_second_moments(&statistics.second_moments, scales)
                .map_err(|source| PipelineError::Rounding { tensor: group.consumers[0].clone(), source })?,
        };
        let gram = statistics.gram.as_ref().map(|gram| match columns {
            None => Arc::clone(gram),
            Some(scales) => Arc::new(gram.divided(scales)),
        });
        for consumer in &group.consumers {
            self.importance.insert(consumer.clone(), moments.clone());
            if let Some(gram) = &gram {
                self.grams.insert(consumer.clone(), Arc::clone(gram));
            }
        }
        Ok(())
    }

    /// The head's inputs are the final norm's outputs; a tied embedding is rounded for them too.
    fn weigh_head(
        &mut self,
        source: &dyn WeightSource,
        head: &Head,
        hidden: &HiddenStates,
        work: Option<&Work>,
    ) -> Result<(), PipelineError> {
        let config = source.config();
        if let Some(name) = config.arch.gguf_name(config.head()) {
            self.importance.insert(name.clone(), head_moments(head, hidden)?.second_moments());
            if let Some(work) = work {
                self.store_head(&name, work)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
