//! One linear layer through pruning into the checkpoint.

use slmc_model::{ModelConfig, Role, TensorId};
use slmc_prune::plan::PlannedTensor;
use slmc_prune::refit::{Refit, refit};
use slmc_prune::select::least_important;
use slmc_prune::sparsegpt::sparsegpt;
use slmc_prune::{Mask, PruneError, PrunePlan, Scope, Sparsity, importance};
use slmc_quant::gptq::FeedbackFactor;
use slmc_quant::loss::InputStatistics;
use slmc_quant::plan::StoredType;
use slmc_quant::{Effort, QuantError};

use super::{PrunedWriter, Scores, moments, stored};
use crate::PipelineError;
use crate::export::{ErrorMeter, Errors, ExportTensor, RowReader, Rows, TensorReport};
use crate::gptq::RoundTensors;
use crate::progress::{Reporter, Unit};
use crate::work::{Finished, Work};

/// Weights that are read and written together: enough for all threads.
const CHUNK_WEIGHTS: usize = 1 << 22;

/// Where the tensors of a pruned checkpoint come from and go to.
pub struct Pruner<'a> {
    /// The model.
    pub config: &'a ModelConfig,
    /// Reads them.
    pub reader: &'a RowReader<'a>,
    /// All tensors of the checkpoint.
    pub tensors: &'a [ExportTensor],
    /// What becomes of them.
    pub plan: &'a PrunePlan,
    /// Takes them.
    pub writer: &'a PrunedWriter,
    /// Where the dense model's statistics decide what Wanda prunes, so that nothing is run through the pruned one: those.
    pub scores: Option<&'a Scores>,
    /// How long to look for better weights.
    pub effort: Effort,
    /// Keeps what is finished; `None` for a run without calibration.
    pub work: Option<&'a Work>,
}

impl Pruner<'_> {
    /// Prunes a linear layer by `importance` (`[d_out, d_in]`) and writes it; what became of it, and its weights. `inputs` is for
    /// the report.
    ///
    /// # Errors
    /// Writing fails; lengths that do not fit.
    pub fn prune_by_importance(
        &self,
        layer: usize,
        role: Role,
        mut weights: Vec<f32>,
        importance: impl FnOnce(&[f32]) -> Result<Vec<f32>, PruneError>,
        inputs: InputStatistics<'_>,
    ) -> Result<(TensorReport, Vec<f32>), PipelineError> {
        let at = self.position(layer, role);
        let (planned, columns) = (&self.plan.tensors[at], self.tensors[at].columns());
        let before = weights.clone();
        if planned.pruned.is_some() {
            let importance = importance(&weights).map_err(failed(planned))?;
            let sparsity = self.plan.sparsity_of(planned);
            let mask = least_important(&importance, columns, sparsity, self.plan.scope);
            mask.and_then(|mask| mask.apply(&mut weights)).map_err(failed(planned))?;
        }
        self.store(at, (&before, &before), weights, inputs)
    }

    /// Writes what no block holds, and, where nothing was run through the model, the linear layers, pruned by magnitude or by the
    /// scores. `done` are the
    /// tensors that are written; reports on all, in the plan's order.
    ///
    /// # Errors
    /// Reading or writing fails; the user cancels.
    pub fn write_others(
        &self,
        mut done: Vec<TensorReport>,
        reporter: &dyn Reporter,
    ) -> Result<Vec<TensorReport>, PipelineError> {
        let is_done = |t: &PlannedTensor| done.iter().any(|report| report.name == t.hf_name);
        let left: Vec<usize> =
            (0..self.tensors.len()).filter(|at| !is_done(&self.plan.tensors[*at])).collect();
        let weights = left.iter().map(|at| self.plan.tensors[*at].weights()).sum();
        reporter.begin("Writing", weights, Unit::Weights);
        for at in left {
            let (tensor, planned) = (&self.tensors[at], &self.plan.tensors[at]);
            if let (Some(scores), Some(_)) = (self.scores, planned.pruned) {
                done.push(self.prune_by_scores(at, scores)?);
                reporter.advance(planned.weights());
                continue;
            }
            // a mask looks at the whole matrix; what stays goes through in pieces
            let step = match planned.pruned {
                Some(_) => tensor.rows(),
                None => (CHUNK_WEIGHTS / tensor.columns()).max(1),
            };
            let (mut weights, mut errors) = (Vec::new(), Errors::default());
            for first in (0..tensor.rows()).step_by(step) {
                if reporter.is_cancelled() {
                    return Err(PipelineError::Cancelled);
                }
                let rows = first..tensor.rows().min(first + step);
                self.reader.read(tensor, rows, &mut weights, &mut Vec::new())?;
                let before = weights.clone();
                if planned.pruned.is_some() {
                    let sparsity = self.plan.sparsity_of(planned);
                    let pruned = by_magnitude(&weights, tensor.columns(), sparsity, self.plan.scope);
                    weights = pruned.map_err(failed(planned))?;
                }
                let stored = self.encode(at, first * tensor.columns(), &weights)?;
                errors.weights =
                    slmc_quant::loss::relative_error(&before, &stored).map_err(rounding(planned))?;
                reporter.advance(weights.len() as u64);
            }
            // what stays is stored as it was
            let errors = if planned.pruned.is_some() { errors } else { Errors::default() };
            done.push(report(planned, errors));
        }
        reporter.end();
        let order = |report: &TensorReport| self.plan.tensors.iter().position(|t| t.hf_name == report.name);
        done.sort_by_key(order);
        Ok(done)
    }

    /// Prunes and writes a linear layer by the dense model's moments.
    fn prune_by_scores(&self, at: usize, scores: &Scores) -> Result<TensorReport, PipelineError> {
        let (tensor, planned) = (&self.tensors[at], &self.plan.tensors[at]);
        let mut weights = Vec::new();
        self.reader.read(tensor, 0..tensor.rows(), &mut weights, &mut Vec::new())?;
        let moments = moments(scores, planned)?;
        let before = weights.clone();
        let importance = importance::wanda(&weights, moments).map_err(failed(planned))?;
        let sparsity = self.plan.sparsity_of(planned);
        let mask = least_important(&importance, tensor.columns(), sparsity, self.plan.scope);
        mask.and_then(|mask| mask.apply(&mut weights)).map_err(failed(planned))?;
        let inputs = InputStatistics::SecondMoments(moments);
        Ok(self.store(at, (&before, &before), weights, inputs)?.0)
    }

    /// Where a linear layer stands among the tensors.
    fn position(&self, layer: usize, role: Role) -> usize {
        let name = self.config.arch.gguf_name(TensorId::block(layer, role));
        let at = self.tensors.iter().position(|t| Some(&t.name) == name.as_ref());
        at.expect("the model's tensors are written")
    }

    /// Writes a whole linear layer and keeps it; what became of it, and its weights as stored. `weights` and `targets` are what it was
    /// and what it should have given.
    fn store(
        &self,
        at: usize,
        (weights, targets): (&[f32], &[f32]),
        pruned: Vec<f32>,
        inputs: InputStatistics<'_>,
    ) -> Result<(TensorReport, Vec<f32>), PipelineError> {
        let (tensor, planned) = (&self.tensors[at], &self.plan.tensors[at]);
        let stored = self.encode(at, 0, &pruned)?;
        if planned.pruned.is_none() {
            return Ok((report(planned, Errors::default()), stored));
        }
        let (sparsity, columns) = (self.plan.sparsity_of(planned), tensor.columns());
        let mut errors = ErrorMeter::new(tensor.rows());
        let rows = Rows { first: 0, columns, weights, targets, rounded: &stored, scales: None };
        let plain = |weights: Vec<f32>| by_magnitude(&weights, columns, sparsity, Scope::Row);
        errors.add_beside(rows, inputs, plain).map_err(failed(planned))?;
        Ok((report(planned, errors.finish()), stored))
    }

    /// Writes values of a tensor from flat index `first` on, and keeps them; the values as stored.
    fn encode(&self, at: usize, first: usize, values: &[f32]) -> Result<Vec<f32>, PipelineError> {
        let planned = &self.plan.tensors[at];
        let (dtype, columns) = (planned.dtype, self.tensors[at].columns());
        let bytes = stored::encode(dtype, values, columns).map_err(rounding(planned))?;
        self.writer.write(&planned.hf_name, first, &bytes)?;
        if let (Some(work), Some(_)) = (self.work, planned.pruned) {
            work.put(&planned.hf_name, &bytes)?;
        }
        stored::decode(dtype, &bytes, columns).map_err(rounding(planned))
    }
}

impl RoundTensors for Pruner<'_> {
    fn follows_float_model_every(&self) -> Option<usize> {
        self.effort.follows_float_model_every()
    }

    fn round_linear(
        &self,
        layer: usize,
        role: Role,
        weights: Vec<f32>,
        targets: Vec<f32>,
        factor: &FeedbackFactor,
    ) -> Result<(TensorReport, Vec<f32>), PipelineError> {
        let at = self.position(layer, role);
        let planned = &self.plan.tensors[at];
        let sparsity = self.plan.sparsity_of(planned);
        let inputs = InputStatistics::Covariance(factor.hessian());
        if planned.pruned.is_none() {
            return self.store(at, (&weights, &targets), weights.clone(), inputs);
        }
        let mut pruned = sparsegpt(&targets, factor, sparsity).map_err(failed(planned))?;
        if let Some(how) = refinement(self.effort) {
            pruned = refit(&targets, pruned, factor, sparsity, how).map_err(failed(planned))?;
        }
        self.store(at, (&weights, &targets), pruned.weights, inputs)
    }

    /// The head stays as it is.
    fn rounds_head(&self) -> bool {
        false
    }

    fn round_head(&self, _: Vec<f32>, _: f64) -> Result<TensorReport, PipelineError> {
        unreachable!("the head is not pruned")
    }

    fn work(&self) -> &Work {
        self.work.expect("a calibrated run has a work directory")
    }

    fn restore_linear(
        &self,
        finished: &Finished<'_>,
        layer: usize,
        role: Role,
    ) -> Result<Vec<f32>, PipelineError> {
        let at = self.position(layer, role);
        let (tensor, planned) = (&self.tensors[at], &self.plan.tensors[at]);
        let mut values = Vec::new();
        if planned.pruned.is_none() {
            // nothing was changed: the checkpoint has it
            self.reader.read(tensor, 0..tensor.rows(), &mut values, &mut Vec::new())?;
            return self.encode(at, 0, &values);
        }
        let bytes = finished.bytes(&planned.hf_name)?;
        self.writer.write(&planned.hf_name, 0, &bytes)?;
        stored::decode(planned.dtype, &bytes, tensor.columns()).map_err(rounding(planned))
    }

    fn restore_head(&self, _: &Finished<'_>) -> Result<(), PipelineError> {
        unreachable!("the head is not pruned")
    }

    fn report(&self, name: &str, errors: Errors) -> Option<TensorReport> {
        let planned = self.plan.tensors.iter().find(|planned| planned.hf_name == name)?;
        Some(report(planned, errors))
    }
}

/// How long SparseGPT's weights are refined. Source of the exact problem: arXiv 2301.00774, section 3.1.
const fn refinement(effort: Effort) -> Option<Refit> {
    match effort {
        Effort::Fast => None,
        Effort::Balanced => Some(Refit::BALANCED),
        Effort::Best => Some(Refit::BEST),
    }
}

fn by_magnitude(
    weights: &[f32],
    columns: usize,
    sparsity: Sparsity,
    scope: Scope,
) -> Result<Vec<f32>, PruneError> {
    let mask: Mask = least_important(&importance::magnitude(weights), columns, sparsity, scope)?;
    let mut pruned = weights.to_vec();
    mask.apply(&mut pruned)?;
    Ok(pruned)
}

fn report(planned: &PlannedTensor, errors: Errors) -> TensorReport {
    TensorReport {
        name: planned.hf_name.clone(),
        ty: StoredType::as_it_is(planned.dtype).into(),
        shape: planned.shape.clone(),
        bytes: planned.weights() * planned.dtype.bytes() as u64,
        relative_error: errors.weights,
        output_error: errors.outputs,
        zeros: None,
    }
}

fn failed(planned: &PlannedTensor) -> impl Fn(PruneError) -> PipelineError {
    |source| PipelineError::Pruning { tensor: planned.hf_name.clone(), source }
}

fn rounding(planned: &PlannedTensor) -> impl Fn(QuantError) -> PipelineError {
    |source| PipelineError::Rounding { tensor: planned.hf_name.clone(), source }
}
