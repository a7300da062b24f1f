//! What stays of the model: chosen by what runs through it, or by its weights alone where they and numbers say all.

use slmc_calibration::TokenBatches;
use slmc_checkpoint::CheckpointPlan;
use slmc_model::{ModelConfig, ModelError};
use slmc_quant::Effort;
use slmc_quant::plan::IntFacts;

use super::{PlannedStructured, PreparedStructured, StructuredSettings};
use crate::PipelineError;
use crate::allocation::split;
use crate::progress::Reporter;
use crate::scores::{Identity, ScoreFile};
use crate::structured::{
    Choice, Cutting, Damage, PlannedCut, Profile, Ranked, Shape, Sizing, StreamDetail, StructuredPlan, cuts,
    measure, profile, ranked_dimensions,
};
use crate::walker::Walk;

impl StructuredSettings {
    /// The sizes that are asked for, or that the budget allows.
    ///
    /// # Errors
    /// Numbers that no such model can have.
    pub(super) fn sizing<'a>(
        &self,
        config: &'a ModelConfig,
        facts: &[IntFacts],
    ) -> Result<Sizing<'a>, PipelineError> {
        if let Some(layer) = self.keep_layers.iter().find(|layer| **layer >= config.num_hidden_layers) {
            let blocks = config.num_hidden_layers;
            return Err(PipelineError::CannotPrune {
                reason: format!(
                    "there is no layer {layer} to keep: they are numbered from 0 to {}",
                    blocks - 1
                ),
            });
        }
        let bytes: u64 =
            facts.iter().map(|t| t.shape.iter().product::<usize>() as u64 * t.dtype.bytes() as u64).sum();
        let parameter_bytes = bytes as f64 / config.parameters() as f64;
        Sizing::new(
            config,
            (self.asked, self.budget, &self.kinds),
            (parameter_bytes, self.compensates),
            (self.keep_layers.len(), self.multiple),
        )
    }

    /// Whether anything depends on what runs through the model.
    pub(super) fn calibrates(&self, sizing: &Sizing<'_>) -> bool {
        self.solves
            || self.compensates
            || self.importance.needs_activations()
            || sizing.may_shorten()
            || sizing.compares_kinds()
    }

    /// How much there is to know of the residual stream.
    pub(super) fn detail(&self, sizing: &Sizing<'_>) -> StreamDetail {
        match (sizing.may_narrow(), self.choice().needs_hessians()) {
            (false, _) => StreamDetail::Nothing,
            (true, false) => StreamDetail::Moments,
            (true, true) => StreamDetail::Hessians,
        }
    }

    pub(super) fn choice(&self) -> Choice {
        Choice { importance: self.importance, rounds: rounds(self.effort), seed: self.job.batches.seed }
    }
}

impl PreparedStructured {
    /// Looks at the whole model, measures where a budget is to be spread, and chooses what stays: a forward pass over the calibration
    /// text, and about as much again for every kind. Where no calibration is needed, the weights are read and nothing is run.
    ///
    /// # Errors
    /// The model cannot be run; no size fits the budget; nothing would go; the user cancels.
    pub fn planned(self, reporter: &dyn Reporter) -> Result<PlannedStructured, PipelineError> {
        self.warn(reporter);
        let device = self.settings.job.device.burn().map_err(ModelError::from)?;
        let storage = self.settings.job.storage(&self.footing);
        let walk = self.batches.as_ref().map(|batches| Walk {
            batch_tokens: self.footing.batch_tokens,
            storage: &storage,
            ..Walk::new(self.source.as_ref(), &batches.tokens, &device, reporter)
        });
        let profile = match (&walk, &self.batches) {
            (Some(walk), Some(batches)) => self.profile(walk, batches)?,
            _ => Profile::unseen(self.source.config()),
        };
        let (config, choice) = (self.source.config(), self.settings.choice());
        let blocks = profile.dispensable(&self.settings.keep_layers);
        let dimensions = match self.detail {
            StreamDetail::Nothing => Vec::new(),
            _ => ranked_dimensions(self.source.as_ref(), &profile, choice.importance, choice.seed)?,
        };
        let ranked = Ranked { blocks: &blocks, dimensions: &dimensions };
        let sizing = self.settings.sizing(config, &self.facts)?;
        let damages = match walk {
            Some(walk) if sizing.compares_kinds() => self.damages(walk, &sizing, &profile, ranked)?,
            _ => Vec::new(),
        };
        let chosen = sizing.choose(&damages)?;
        let mut shape = Shape::new(chosen.widths, config, ranked);
        shape.biases = self.settings.compensates;
        let before = Shape::widths_of(config);
        let (parameters_before, block_parameters_before) = sizing.parameters(before);
        let (parameters, block_parameters) = sizing.parameters(chosen.widths);
        let plan = StructuredPlan {
            importance: self.settings.importance,
            solves: self.settings.solves,
            calibrates: self.batches.is_some(),
            before,
            tensors: cuts(config, &shape, &self.facts),
            shape,
            predicted_divergence: (!damages.is_empty()).then_some(chosen.predicted),
            damages,
            parameters_before,
            parameters,
            block_parameters_before,
            block_parameters,
        };
        let specs = plan.tensors.iter().map(PlannedCut::spec).collect();
        let layout = CheckpointPlan::new(specs, CheckpointPlan::DEFAULT_SHARD_BYTES)?;
        Ok(PlannedStructured { prepared: self, profile, layout, plan })
    }

    /// What removing some of each kind does, on a part of the calibration text; the rest gives the statistics.
    fn damages(
        &self,
        walk: Walk<'_>,
        sizing: &Sizing<'_>,
        profile: &Profile,
        ranked: Ranked<'_>,
    ) -> Result<Vec<Damage>, PipelineError> {
        let (windows, sequences) = split(walk.sequences);
        let walk = Walk { sequences: &sequences, ..walk };
        let StructuredSettings { solves, compensates: biases, .. } = self.settings;
        let how = Cutting { choice: self.settings.choice(), solves, biases, profile, ranked };
        measure(&walk, &windows, &sizing.removals(), how)
    }

    /// What is known of the model, from the file of scores where it is there.
    fn profile(&self, walk: &Walk<'_>, batches: &TokenBatches) -> Result<Profile, PipelineError> {
        let (path, config) = (self.settings.scores.as_ref(), self.source.config());
        let Some(path) = path else { return profile(walk, self.detail) };
        let (config_json, device) = (self.checkpoint.config_json(), self.settings.job.device.name());
        let identity = Identity::new(self.source.as_ref(), config_json, &batches.hash, device)?;
        let mut file = ScoreFile::open(path, identity)?;
        if let Some(profile) = Profile::find(&file, config, self.detail) {
            return Ok(profile);
        }
        let profile = profile(walk, self.detail)?;
        profile.put(&mut file);
        file.write(path)?;
        Ok(profile)
    }
}

/// After how many removals the costs of what is left are told anew: about so many times a block.
const fn rounds(effort: Effort) -> usize {
    match effort {
        Effort::Fast => 4,
        Effort::Balanced => 16,
        Effort::Best => 64,
    }
}
