//! From a target to a plan: costs are measured, types chosen, the file laid out again.

use slmc_gguf::container::Metadata;
use slmc_model::ModelError;
use slmc_quant::plan::Target;
use slmc_quant::{Plan, PlanRequest, Rounding};

use super::{Prepared, lay_out};
use crate::PipelineError;
use crate::allocation::{Chosen, FileFacts, check, choose, mostly, split, types};
use crate::export::{ExportTensor, metadata, model_facts};
use crate::gptq::{DAMPING, HEAD_DAMPING};
use crate::progress::Reporter;
use crate::rescaling::RescaledSource;
use crate::sensitivity::{Feedback, Request, measure};
use crate::walker::Walk;

impl Prepared {
    /// The same job with the types chosen by measured cost, if its settings have a target: minutes of work, which
    /// [`Prepared::run`] does by itself where it was not done before.
    ///
    /// # Errors
    /// Running the model fails; the target cannot be reached; the user cancels.
    pub fn allocated(mut self, reporter: &dyn Reporter) -> Result<Self, PipelineError> {
        let (Some(target), Some(batches)) = (self.settings.target, &self.batches) else { return Ok(self) };
        if self.plan.prediction.is_some() {
            return Ok(self);
        }
        let tensors: u64 = self.plan.tensors.iter().map(|tensor| self.layout.padded(tensor.bytes)).sum();
        let file = FileFacts { overhead: self.output_bytes() - tensors, alignment: self.layout.alignment() };
        let types = types(&self.plan, target, self.settings.keep_zeros);
        check(&self.plan, &types, target, file)?;
        let device = self.settings.job.device.burn().map_err(ModelError::from)?;
        let storage = self.settings.job.storage(&self.footing);
        let batch_tokens = self.footing.batch_tokens;
        let walk = Walk {
            batch_tokens,
            storage: &storage,
            ..Walk::new(self.source.as_ref(), &batches.tokens, &device, reporter)
        };
        let calibrated = self.calibrate(Some(&walk), None)?;
        let source = RescaledSource::new(self.source.as_ref(), &calibrated.rescaling);
        let (windows, sequences) = split(&batches.tokens);
        let walk = Walk { source: &source, sequences: &sequences, ..walk };
        let feedback = (self.settings.method.rounding() == Rounding::Feedback).then_some(Feedback {
            walk: &walk,
            passes: self.settings.effort.passes(),
            damping: DAMPING,
            head_damping: HEAD_DAMPING,
        });
        let request = Request {
            source: &source,
            types: &types,
            importance: &calibrated.importance,
            feedback,
            windows: &windows,
            device: &device,
        };
        let measured = measure(&request, reporter)?;
        let tokens = windows.len() * batches.seq_len;
        let chosen = choose(&self.plan, &measured, target, tokens, file)?;
        self.plan = self.replan(chosen)?;
        self.plan.plan_zeros(&self.zero_shares, self.settings.keep_zeros);
        self.plan.check_zeros(self.settings.keep_zeros)?;
        self.settings.mix = self.plan.mix;
        self.layout = lay_out(&self.settings, self.metadata(), &self.plan)?;
        Ok(self)
    }

    fn metadata(&self) -> Metadata {
        metadata(&self.name, self.config(), &self.vocabulary, self.settings.mix, &self.provenance)
    }

    fn replan(&self, chosen: Chosen) -> Result<Plan, PipelineError> {
        let facts: Vec<_> = self.tensors.iter().map(ExportTensor::facts).collect();
        let mut request = PlanRequest {
            overrides: self.settings.overrides.clone(),
            keep: self.settings.keep.clone(),
            allocated: chosen.types,
            prediction: Some(chosen.prediction),
            ..PlanRequest::new(self.settings.mix, self.settings.method)
        };
        let plan = |request: &PlanRequest| Plan::new(&model_facts(self.config()), &facts, request);
        if self.settings.target != Some(Target::Mix) {
            request.mix = mostly(&plan(&request)?);
        }
        Ok(plan(&request)?)
    }
}
