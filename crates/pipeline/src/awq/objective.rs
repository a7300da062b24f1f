//! The output error of a group of tensors under candidate scales.

use serde::{Deserialize, Serialize};
use slmc_model::{Block, Context, HostView, NoObserver, Role, Tensor, host};
use slmc_quant::awq::{
    Candidate, GridPlan, GroupKind, GroupedHeads, ScaleGroup, SearchError, SearchOptions, round_scaled,
    search, weight_mean_abs,
};
use slmc_quant::loss::{InputStatistics, output_error};
use slmc_quant::{Grid, QuantError};

use super::groups;
use super::inputs::BlockInputs;
use crate::PipelineError;

/// Columns among which weights compare with the largest: the length of most formats' blocks.
const WEIGHT_GROUP: usize = 32;

/// What the search found for one group.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SearchedGroup {
    /// The best ratio.
    pub candidate: Candidate,
    /// Its scales, one for each channel of the producer; empty where an earlier run applied them.
    #[serde(skip)]
    pub scales: Vec<f32>,
    /// Mean squared output error with these scales.
    pub loss: f64,
    /// Mean squared output error without scaling.
    pub unscaled_loss: f64,
}

impl SearchedGroup {
    /// False where no scaling was best.
    pub fn is_scaled(&self) -> bool {
        self.candidate != Candidate::IDENTITY
    }
}

/// Searches the scales of one group. The output error is that of the attention (for query, key and value), of the MLP (for
/// gate and up), and of the matrix itself (for the attention's output and down, whose output is added to the residual
/// stream as it is).
///
/// # Errors
/// The block cannot be run; scales or outputs are not finite.
pub fn search_group<P: GridPlan>(
    group: &ScaleGroup,
    block: &mut Block,
    inputs: &BlockInputs,
    heads: &GroupedHeads,
    context: &Context,
    plan: &P,
) -> Result<SearchedGroup, PipelineError> {
    let statistics = inputs.statistics(group.kind);
    let failed = |source| PipelineError::Rounding { tensor: group.consumers[0].clone(), source };
    let mut module = Module::new(group, block, inputs, context, plan)?;
    let per_value_channel = group.kind == GroupKind::AttentionOutput;
    let of_producer = |statistic: &[f32]| match per_value_channel {
        true => heads.reduce(statistic).map_err(failed),
        false => Ok(statistic.to_vec()),
    };
    let mean_abs = of_producer(&statistics.mean_abs)?;
    let weights: Vec<&[f32]> = module.consumers.iter().map(|c| c.weights.as_slice()).collect();
    let weight_mean_abs =
        of_producer(&weight_mean_abs(&weights, statistics.mean_abs.len(), WEIGHT_GROUP).map_err(failed)?)?;
    let best = search(&SearchOptions::default(), &mean_abs, Some(&weight_mean_abs), |scales| {
        if per_value_channel {
            module.error(&heads.expand(scales).map_err(failed)?)
        } else {
            module.error(scales)
        }
    })
    .map_err(|error| match error {
        SearchError::Objective(error) => error,
        SearchError::Statistics(source) => failed(source),
        other => PipelineError::Search { tensor: group.consumers[0].clone(), reason: other.to_string() },
    })?;
    module.restore()?;
    Ok(SearchedGroup {
        candidate: best.candidate,
        scales: best.scales,
        loss: best.loss,
        unscaled_loss: best.unscaled_loss,
    })
}

/// The part of a block whose output error is measured, with its consumers' float weights.
struct Module<'a, G> {
    kind: GroupKind,
    block: &'a mut Block,
    inputs: &'a BlockInputs,
    context: &'a Context,
    consumers: Vec<Consumer<G>>,
    /// The float output on the samples; empty where the error is that of the matrix itself.
    reference: Vec<f32>,
}

struct Consumer<G> {
    role: Role,
    name: String,
    grid: G,
    weights: Vec<f32>,
}

impl<'a, G: Grid> Module<'a, G> {
    fn new(
        group: &ScaleGroup,
        block: &'a mut Block,
        inputs: &'a BlockInputs,
        context: &'a Context,
        plan: &impl GridPlan<Grid = G>,
    ) -> Result<Self, PipelineError> {
        let roles: Vec<Role> = groups::input(group.kind).roles(block.config()).collect();
        let mut consumers = Vec::new();
        for (role, name) in roles.into_iter().zip(&group.consumers) {
            let grid = plan.grid(name).ok_or_else(|| PipelineError::Search {
                tensor: name.clone(),
                reason: "the plan has no such tensor".into(),
            })?;
            let weights = block.weight(role)?;
            consumers.push(Consumer { role, name: name.clone(), grid, weights });
        }
        let mut module = Self { kind: group.kind, block, inputs, context, consumers, reference: Vec::new() };
        if module.runs_the_block() {
            module.reference = module.output()?.to_vec();
        }
        Ok(module)
    }

    fn runs_the_block(&self) -> bool {
        matches!(self.kind, GroupKind::AttentionInput | GroupKind::FeedForwardInput)
    }

    /// Mean squared output error with the consumers' columns scaled, rounded and scaled back.
    fn error(&mut self, scales: &[f32]) -> Result<f64, PipelineError> {
        let moments = &self.inputs.statistics(self.kind).second_moments;
        let mut rounded = Vec::new();
        for consumer in &self.consumers {
            let failed =
                |source: QuantError| PipelineError::Rounding { tensor: consumer.name.clone(), source };
            rounded.resize(consumer.weights.len(), 0.0);
            round_scaled(consumer.grid, &consumer.weights, scales, Some(moments), &mut rounded)
                .map_err(failed)?;
            if !self.runs_the_block() {
                let samples = InputStatistics::Samples(self.inputs.samples(self.kind));
                return output_error(&consumer.weights, &rounded, scales.len(), samples).map_err(failed);
            }
            self.block.set_weight(consumer.role, std::mem::take(&mut rounded))?;
        }
        let output = self.output()?;
        Ok(mean_squared_difference(&output, &self.reference))
    }

    fn output(&self) -> Result<HostView, PipelineError> {
        let samples = self.inputs.samples(self.kind);
        let (sequences, seq_len) = (self.inputs.sequences, self.inputs.seq_len);
        let width = samples.len() / (sequences * seq_len).max(1);
        let x: Tensor<3> = host::tensor(samples.to_vec(), [sequences, seq_len, width], self.block.device());
        let output = match self.kind {
            GroupKind::AttentionInput => self.block.attention_output(x, self.context, &mut NoObserver)?,
            _ => self.block.mlp_output(x, &mut NoObserver)?,
        };
        Ok(HostView::of(&output))
    }

    /// Puts the float weights back.
    fn restore(self) -> Result<(), PipelineError> {
        if self.runs_the_block() {
            for consumer in self.consumers {
                self.block.set_weight(consumer.role, consumer.weights)?;
            }
        }
        Ok(())
    }
}

fn mean_squared_difference(a: &[f32], b: &[f32]) -> f64 {
    let sum: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    sum / a.len().max(1) as f64
}
