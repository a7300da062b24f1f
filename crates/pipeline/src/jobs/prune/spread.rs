//! How many weights each layer loses, where not all lose the same share: known after the dense model was looked at.

use std::collections::HashMap;

use slmc_model::{BurnDevice, ModelError, TensorId};
use slmc_prune::importance;
use slmc_prune::select::least_important;
use slmc_prune::sparsegpt::sparsegpt;

use super::{LayerSparsity, Method, PreparedPrune, PruneSettings, Scope, Sparsity};
use crate::PipelineError;
use crate::allocation::split;
use crate::export::RowReader;
use crate::gptq::DAMPING;
use crate::hidden::Storage;
use crate::imatrix;
use crate::progress::Reporter;
use crate::pruning::{BlockCosts, Layers, Scores, measured_shares, moments};
use crate::rescaling::Rescaling;
use crate::scores::{Identity, ScoreFile};
use crate::sensitivity::block_divergences;
use crate::walker::Walk;

/// Whether the dense model's statistics are wanted.
pub(super) fn needs_scores(settings: &PruneSettings) -> bool {
    !settings.layer_sparsity.is_uniform() || settings.scores.is_some()
}

/// Whether what is pruned is walked through, block by block.
pub(super) fn walks(settings: &PruneSettings) -> bool {
    match settings.method {
        Method::Magnitude => false,
        Method::Wanda => settings.scores.is_none(),
        Method::SparseGpt => true,
    }
}

impl PreparedPrune {
    /// The same job with every layer's count known: where all lose the same share it is already, else the dense model is run and
    /// looked at, which [`PreparedPrune::run`] does by itself where it was not done before.
    ///
    /// # Errors
    /// Running the model fails; scores that are another model's; the user cancels.
    pub fn spread(mut self, reporter: &dyn Reporter) -> Result<Self, PipelineError> {
        if self.is_spread {
            return Ok(self);
        }
        if needs_scores(&self.settings) {
            self.scores = Some(self.find_scores(reporter)?);
        }
        let rescaling = Rescaling::default();
        let layers = Layers {
            reader: &RowReader::new(&self.checkpoint, &rescaling),
            tensors: &self.tensors,
            plan: &self.plan,
            reporter,
        };
        let counts = match (self.settings.layer_sparsity, &self.scores) {
            (LayerSparsity::Owl { threshold, lambda }, Some(scores)) => {
                Some(layers.by_outliers(scores, threshold, lambda)?)
            }
            (LayerSparsity::Measured, Some(Scores { costs: Some(costs), .. })) => {
                Some(layers.by_cost(costs)?)
            }
            _ if self.settings.scope == Scope::Global => Some(layers.by_magnitude()?),
            _ => None,
        };
        if let Some(counts) = counts {
            self.plan.spread(self.settings.layer_sparsity, &counts);
        }
        self.is_spread = true;
        Ok(self)
    }

    /// The scores of the file named, as far as it has them; what is missing is gathered and, where a file is named, kept there.
    fn find_scores(&self, reporter: &dyn Reporter) -> Result<Scores, PipelineError> {
        let Some(batches) = &self.batches else { unreachable!("scores are gathered on calibration text") };
        let device = self.settings.job.device;
        let config_json = self.checkpoint.config_json();
        let identity = Identity::new(self.source.as_ref(), config_json, &batches.hash, device.name())?;
        let mut file = match &self.settings.scores {
            Some(path) => ScoreFile::open(path, identity)?,
            None => ScoreFile::new(identity),
        };
        let mut scores = Scores::find(&file);
        let is_new = scores.moments.is_empty();
        if is_new {
            scores.moments = self.gather_moments(reporter)?;
        }
        let shares = measured_shares(self.settings.sparsity.share());
        let wants_costs = self.settings.layer_sparsity == LayerSparsity::Measured
            && scores
                .costs
                .as_ref()
                .is_none_or(|costs| costs.shares != shares || costs.method != self.settings.method);
        if wants_costs {
            scores.costs = Some(self.measure_costs(&scores, shares, reporter)?);
        }
        if let Some(path) = self.settings.scores.as_ref().filter(|_| is_new || wants_costs) {
            scores.put(&mut file);
            file.write(path)?;
        }
        Ok(scores)
    }

    fn gather_moments(&self, reporter: &dyn Reporter) -> Result<HashMap<String, Vec<f32>>, PipelineError> {
        let sequences = self.batches.as_ref().map_or(&[][..], |batches| &batches.tokens);
        let (device, storage) = (
            self.settings.job.device.burn().map_err(ModelError::from)?,
            self.settings.job.storage(&self.footing),
        );
        let walk = self.walk_over(sequences, &device, &storage, reporter);
        Ok(imatrix::importance(&imatrix::gather(&walk, None)?))
    }

    /// What pruning each block alone costs on some of the calibration windows, pruned as the method prunes what nothing was pruned in
    /// front of; SparseGPT's weights are not refined.
    fn measure_costs(
        &self,
        scores: &Scores,
        shares: Vec<f64>,
        reporter: &dyn Reporter,
    ) -> Result<BlockCosts, PipelineError> {
        let sequences = self.batches.as_ref().map_or(&[][..], |batches| &batches.tokens);
        let (windows, others) = split(sequences);
        let device = self.settings.job.device.burn().map_err(ModelError::from)?;
        let config = self.source.config();
        let storage = self.settings.job.storage(&self.footing);
        let walk = self.walk_over(&others, &device, &storage, reporter);
        let damping = (self.settings.method == Method::SparseGpt).then_some(DAMPING);
        let divergences = block_divergences(&walk, &windows, damping, shares.len(), |layer, at| {
            let name = config.arch.gguf_name(TensorId::block(layer.block, layer.role)).unwrap_or_default();
            let planned = self.plan.tensors.iter().find(|planned| planned.name == name);
            let mut pruned = layer.weights.to_vec();
            let Some(planned) = planned.filter(|planned| planned.pruned.is_some()) else { return Ok(pruned) };
            let failed = |source| PipelineError::Pruning { tensor: planned.hf_name.clone(), source };
            let sparsity = Sparsity::Share(shares[at]);
            let importance = match (self.settings.method, layer.factor) {
                (Method::SparseGpt, Some(factor)) => {
                    return Ok(sparsegpt(layer.weights, factor, sparsity).map_err(failed)?.weights);
                }
                (Method::Magnitude, _) => importance::magnitude(layer.weights),
                _ => importance::wanda(layer.weights, moments(scores, planned)?).map_err(failed)?,
            };
            least_important(&importance, planned.shape[1], sparsity, self.settings.scope)
                .and_then(|mask| mask.apply(&mut pruned))
                .map_err(failed)?;
            Ok(pruned)
        })?;
        Ok(BlockCosts { method: self.settings.method, shares, divergences })
    }

    /// The dense model over some sequences.
    fn walk_over<'a>(
        &'a self,
        sequences: &'a [Vec<u32>],
        device: &'a BurnDevice,
        storage: &'a Storage,
        reporter: &'a dyn Reporter,
    ) -> Walk<'a> {
        let batch_tokens = self.footing.batch_tokens;
        Walk { batch_tokens, storage, ..Walk::new(self.source.as_ref(), sequences, device, reporter) }
    }
}
