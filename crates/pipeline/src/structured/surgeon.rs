//! The blocks' matrices through structured pruning into the smaller checkpoint.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use slmc_model::{Block, ModelConfig, Role};
use slmc_prune::PruneError;
use slmc_prune::structured::solve;
use slmc_quant::gptq::FeedbackFactor;
use slmc_quant::loss::InputStatistics;
use slmc_quant::plan::StoredType;
use slmc_quant::{Effort, QuantError};

use super::cutting::{Staying, cut_out, keep_only, put_back};
use super::end::{End, Streams, solve_end};
use super::plan::PlannedCut;
use super::{Choice, Kept, Profile, Shape, StructuredPlan};
use crate::PipelineError;
use crate::export::{ErrorMeter, Errors, ExportTensor, RowReader, Rows, TensorReport};
use crate::gptq::{DAMPING, RoundTensors};
use crate::hidden::HiddenStates;
use crate::pruning::{PrunedWriter, stored};
use crate::walker::Walk;
use crate::work::{Finished, Work};

/// What the end of the model is kept under in the work directory.
const END: &str = "the end";

/// Where the tensors of a smaller checkpoint come from and go to. While a block is at work its matrices keep their shapes, with zeros in
/// the columns that go; rows are cut when the product behind them has said which. The residual stream keeps its width, too, with zeros in
/// the dimensions that go.
pub struct Surgeon<'a> {
    /// The original.
    pub config: &'a ModelConfig,
    /// Reads its tensors.
    pub reader: &'a RowReader<'a>,
    /// All of them.
    pub tensors: &'a [ExportTensor],
    /// What becomes of them.
    pub plan: &'a StructuredPlan,
    /// What is known of the original's blocks.
    pub profile: &'a Profile,
    /// How channels and heads are chosen.
    pub choice: Choice,
    /// Takes the tensors.
    pub writer: &'a PrunedWriter,
    /// Whether to aim at the original's outputs.
    pub effort: Effort,
    /// Keeps what is finished; `None` where the model is not walked through.
    pub work: Option<&'a Work>,
    /// What has been found out so far.
    pub state: Mutex<State>,
}

/// What has been found out.
#[derive(Default)]
pub struct State {
    /// Of each block that is done.
    pub(super) kept: BTreeMap<usize, Kept>,
    /// What biases get for what went, by block and linear layer.
    pub(super) biases: BTreeMap<(usize, Role), Vec<f32>>,
    /// The end of the model, where it was solved for.
    pub(super) end: Option<End>,
    /// Matrices as stored, whose rows are still to be cut.
    pending: Vec<(Role, Vec<f32>)>,
}

/// Whether a layer ends a half of its block, so that its columns are what goes.
pub(super) const fn ends_half(role: Role) -> bool {
    matches!(role, Role::Output | Role::Down)
}

impl Surgeon<'_> {
    /// What becomes of block `layer`'s layer `role`.
    pub(super) fn cut(&self, layer: usize, role: Role) -> &PlannedCut {
        let wanted = |cut: &&PlannedCut| cut.id.layer == Some(layer) && cut.id.role == role;
        self.plan.tensors.iter().find(wanted).expect("the walk visits blocks that stay")
    }

    /// What stays of the rows and columns of a tensor of a block.
    pub(super) fn staying<'k>(&'k self, kept: &'k Kept, role: Role) -> Staying<'k> {
        let ((rows, columns), stream) = (kept.staying(role), self.plan.shape.staying(role));
        (rows.or(stream.0), columns.or(stream.1))
    }

    /// Chooses which columns of a layer stay, solves for them where that is wanted, and notes what was chosen.
    pub(super) fn choose(
        &self,
        (layer, role): (usize, Role),
        targets: &mut [f32],
        factor: Option<&FeedbackFactor>,
    ) -> Result<(), PruneError> {
        let (profile, widths) = (&self.profile.layers[layer], self.plan.shape.widths);
        let place = (layer, role, self.config, widths);
        let kept = self.choice.columns(targets, factor, profile, place)?;
        match factor {
            Some(factor) if self.plan.solves => solve(targets, &kept, factor)?,
            _ => keep_only(targets, self.config.shape(role)[1], (None, Some(&kept))),
        }
        self.state().kept.entry(layer).or_default().note(role, kept, self.config);
        Ok(())
    }

    /// Notes what a layer's bias gets for the difference that is made to its weights, and keeps it.
    pub(super) fn compensate(
        &self,
        (layer, role): (usize, Role),
        wanted: &[f32],
        stored: &[f32],
    ) -> Result<(), PipelineError> {
        if !self.plan.shape.biases || !ends_half(role) {
            return Ok(());
        }
        let bias = compensation(wanted, stored, self.profile.layers[layer].means(role));
        let cut = self.bias_cut(layer, role);
        let bias = as_stored(cut, &bias, bias.len())?;
        if let Some(work) = self.work {
            work.put_values(&cut.from, &bias)?;
        }
        self.state().biases.insert((layer, role), bias);
        Ok(())
    }

    fn bias_cut(&self, layer: usize, role: Role) -> &PlannedCut {
        self.cut(layer, role.bias().expect("linear layers can have biases"))
    }

    /// Writes what stays of a whole layer (`values` in its old shape, as stored) and keeps it.
    pub(super) fn write(&self, layer: usize, role: Role, values: &[f32]) -> Result<(), PipelineError> {
        let cut = self.cut(layer, role);
        let state = self.state();
        let kept = &state.kept[&layer];
        let staying = cut_out(values, cut.shape_before[1], self.staying(kept, role));
        let columns: Option<Vec<u8>> = kept
            .staying(role)
            .1
            .map(|some| some.iter().flat_map(|column| (*column as u32).to_le_bytes()).collect());
        drop(state);
        let bytes = self.encode(cut, 0, &staying)?;
        if let Some(work) = self.work {
            if let Some(columns) = columns {
                work.put(&columns_name(cut), &columns)?;
            }
            work.put(&cut.from, &bytes)?;
        }
        Ok(())
    }

    /// Writes values of a new tensor from flat index `first` on; their bytes.
    pub(super) fn encode(
        &self,
        cut: &PlannedCut,
        first: usize,
        values: &[f32],
    ) -> Result<Vec<u8>, PipelineError> {
        let bytes = encoded(cut, values, *cut.shape.last().unwrap_or(&1))?;
        self.writer.write(&cut.name, first, &bytes)?;
        Ok(bytes)
    }

    /// What norms are multiplied by for the dimensions that went, their number aside.
    pub(super) fn shrinkage(&self, layer: Option<usize>, norm: Role) -> f32 {
        shrinkage((&self.plan.shape, self.plan.solves), self.profile, layer, norm)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of how many batches one is followed in the original. With some effort every second one: one of four costs 0.2 % of perplexity
/// where a quarter is cut.
pub fn follows(effort: Effort) -> Option<usize> {
    effort.follows_float_model_every().map(|every| every.min(2))
}

impl RoundTensors for Surgeon<'_> {
    fn follows_float_model_every(&self) -> Option<usize> {
        follows(self.effort)
    }

    /// Groups that are gone are a larger drift than rounding errors, and known better in as many tokens.
    fn damping(&self, _columns: usize, _tokens: u64) -> f64 {
        DAMPING
    }

    fn keeps_block(&self, layer: usize) -> bool {
        self.plan.shape.layers.contains(&layer)
    }

    fn stream_dimensions(&self) -> Option<&[usize]> {
        self.plan.shape.dimensions.as_deref()
    }

    fn prepare(&self, block: &mut Block) -> Result<(), PipelineError> {
        if self.plan.shape.dimensions.is_none() {
            return Ok(());
        }
        for role in [Role::InputNorm, Role::PostNorm, Role::OutputBias, Role::DownBias] {
            if !self.config.has(role) {
                continue;
            }
            let mut values = block.weight(role)?;
            keep_only(&mut values, 1, self.plan.shape.staying(role));
            if matches!(role, Role::InputNorm | Role::PostNorm) {
                let factor = self.shrinkage(Some(block.layer()), role);
                values.iter_mut().for_each(|weight| *weight *= factor);
            }
            block.set_weight(role, values)?;
        }
        Ok(())
    }

    fn round_linear(
        &self,
        layer: usize,
        role: Role,
        mut weights: Vec<f32>,
        mut targets: Vec<f32>,
        factor: &FeedbackFactor,
    ) -> Result<(TensorReport, Vec<f32>), PipelineError> {
        let cut = self.cut(layer, role);
        let (rows, columns) = (cut.shape_before[0], cut.shape_before[1]);
        // what only dimensions that go would have read or got
        for values in [&mut weights, &mut targets] {
            keep_only(values, columns, self.plan.shape.staying(role));
        }
        let aim = targets.clone();
        if ends_half(role) {
            self.choose((layer, role), &mut targets, Some(factor)).map_err(failed(cut))?;
        }
        let stored = as_stored(cut, &targets, columns)?;
        self.compensate((layer, role), &aim, &stored)?;
        let mut errors = ErrorMeter::new(rows);
        let looked_at =
            Rows { first: 0, columns, weights: &weights, targets: &aim, rounded: &stored, scales: None };
        let plain = |mut weights: Vec<f32>| {
            if let Some(kept) = self.state().kept.get(&layer).filter(|_| ends_half(role)) {
                keep_only(&mut weights, columns, (None, kept.staying(role).1));
            }
            Ok::<_, QuantError>(weights)
        };
        let inputs = InputStatistics::Covariance(factor.hessian());
        errors.add_beside(looked_at, inputs, plain).map_err(rounding(cut))?;
        if ends_half(role) {
            let pending = std::mem::take(&mut self.state().pending);
            self.write(layer, role, &stored)?;
            for (role, values) in pending {
                self.write(layer, role, &values)?;
            }
        } else {
            self.state().pending.push((role, stored.clone()));
        }
        Ok((report(cut, errors.finish()), stored))
    }

    fn added_bias(&self, layer: usize, role: Role) -> Option<Vec<f32>> {
        self.state().biases.get(&(layer, role)).cloned()
    }

    /// The head is no step of its own.
    fn rounds_head(&self) -> bool {
        false
    }

    fn round_head(&self, _: Vec<f32>, _: f64) -> Result<TensorReport, PipelineError> {
        unreachable!("the head is not pruned")
    }

    fn looks_at_end(&self) -> bool {
        self.plan.solves && self.plan.shape.dimensions.is_some()
    }

    fn look_at_end(
        &self,
        walk: &Walk<'_>,
        rounded: &HiddenStates,
        float: Option<(&HiddenStates, usize)>,
    ) -> Result<(), PipelineError> {
        let (Some(dimensions), Some((float, every))) = (&self.plan.shape.dimensions, float) else {
            return Ok(());
        };
        let streams = Streams { rounded, float, every };
        let end = solve_end(walk, streams, dimensions, self.shrinkage(None, Role::FinalNorm))?;
        self.work().put_values(END, end.values())?;
        self.state().end = Some(end);
        Ok(())
    }

    fn work(&self) -> &Work {
        self.work.expect("a walk has a work directory")
    }

    fn restore_linear(
        &self,
        finished: &Finished<'_>,
        layer: usize,
        role: Role,
    ) -> Result<Vec<f32>, PipelineError> {
        let cut = self.cut(layer, role);
        let behind = match role {
            Role::QueryKeyValue | Role::Query | Role::Key | Role::Value | Role::Output => Role::Output,
            _ => Role::Down,
        };
        let bytes = finished.bytes(&columns_name(self.cut(layer, behind)))?;
        let columns = bytes.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes) as usize).collect();
        if self.plan.shape.biases && ends_half(role) {
            let bias = finished.values(&self.bias_cut(layer, role).from)?;
            self.state().biases.insert((layer, role), bias);
        }
        let mut state = self.state();
        let kept = state.kept.entry(layer).or_default();
        kept.note(behind, columns, self.config);
        let bytes = finished.bytes(&cut.from)?;
        self.writer.write(&cut.name, 0, &bytes)?;
        let staying = stored::decode(cut.dtype, &bytes, cut.shape[1]).map_err(rounding(cut))?;
        Ok(put_back(&staying, [cut.shape_before[0], cut.shape_before[1]], self.staying(kept, role)))
    }

    fn restore_head(&self, finished: &Finished<'_>) -> Result<(), PipelineError> {
        if self.looks_at_end() {
            let end = End::of(self.config, finished.values(END)?);
            let failed = |source| PipelineError::Rounding { tensor: "the head".into(), source };
            self.state().end = Some(end.map_err(failed)?);
        }
        Ok(())
    }

    fn report(&self, name: &str, errors: Errors) -> Option<TensorReport> {
        self.plan.tensors.iter().find(|cut| cut.name == name).map(|cut| report(cut, errors))
    }
}

/// What a norm is multiplied by for the dimensions that went, their number aside. Only matrices that are solved for want what stays as
/// it was: those that are left as they were lose a part of what they gave, and a norm that gives more makes up for some of it (on an
/// 11.5M model with `--importance activation --no-solve`, KL divergence 0.499 instead of 0.779 with 384 of 512 dimensions, 0.166 instead
/// of 0.216 with 448).
pub(super) fn shrinkage(
    (shape, solves): (&Shape, bool),
    profile: &Profile,
    layer: Option<usize>,
    norm: Role,
) -> f32 {
    let reader = shape.dimensions.as_ref().zip(profile.reader(layer, norm)).filter(|_| solves);
    reader.map_or(1.0, |(kept, reader)| reader.shrinkage(kept) as f32)
}

/// What a bias must give for outputs that stay the same on the average, where `wanted` weights (`[n, columns]`) have become `stored`
/// ones and inputs have these means: (W − Ŵ) E\[x\] (An et al., "FLAP", arXiv 2312.11983, section 3.3).
pub(super) fn compensation(wanted: &[f32], stored: &[f32], means: &[f64]) -> Vec<f32> {
    let rows = wanted.chunks_exact(means.len()).zip(stored.chunks_exact(means.len()));
    let lost = |(wanted, stored): (&[f32], &[f32])| {
        let lost =
            wanted.iter().zip(stored).zip(means).map(|((w, s), mean)| (f64::from(*w) - f64::from(*s)) * mean);
        lost.sum::<f64>() as f32
    };
    rows.map(lost).collect()
}

/// What the columns that stay of a layer are kept under in the work directory.
fn columns_name(cut: &PlannedCut) -> String {
    format!("columns of {}", cut.from)
}

fn encoded(cut: &PlannedCut, values: &[f32], columns: usize) -> Result<Vec<u8>, PipelineError> {
    stored::encode(cut.dtype, values, columns).map_err(rounding(cut))
}

pub(super) fn as_stored(cut: &PlannedCut, values: &[f32], columns: usize) -> Result<Vec<f32>, PipelineError> {
    let bytes = encoded(cut, values, columns)?;
    stored::decode(cut.dtype, &bytes, columns).map_err(rounding(cut))
}

pub(super) fn report(cut: &PlannedCut, errors: Errors) -> TensorReport {
    TensorReport {
        name: cut.name.clone(),
        ty: StoredType::as_it_is(cut.dtype).into(),
        shape: cut.shape.clone(),
        bytes: cut.bytes(),
        relative_error: errors.weights,
        output_error: errors.outputs,
        zeros: None,
    }
}

pub(super) fn failed(cut: &PlannedCut) -> impl Fn(PruneError) -> PipelineError {
    |source| PipelineError::Pruning { tensor: cut.from.clone(), source }
}

fn rounding(cut: &PlannedCut) -> impl Fn(QuantError) -> PipelineError {
    |source| PipelineError::Rounding { tensor: cut.from.clone(), source }
}
