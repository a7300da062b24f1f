//! The blocks' matrices through structured pruning into the smaller checkpoint.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use slmc_model::{ModelConfig, Role};
use slmc_prune::PruneError;
use slmc_prune::structured::solve;
use slmc_prune::structured::solve::{columns_of, rows_of};
use slmc_quant::gptq::FeedbackFactor;
use slmc_quant::loss::InputStatistics;
use slmc_quant::plan::StoredType;
use slmc_quant::{Effort, QuantError};

use super::plan::PlannedCut;
use super::{Choice, Kept, Profile, StructuredPlan};
use crate::PipelineError;
use crate::export::{ErrorMeter, Errors, ExportTensor, RowReader, Rows, TensorReport};
use crate::gptq::RoundTensors;
use crate::progress::{Reporter, Unit};
use crate::pruning::{PrunedWriter, stored};
use crate::work::{Finished, Work};

/// Weights that are read and written together.
const CHUNK_WEIGHTS: usize = 1 << 22;

/// Where the tensors of a smaller checkpoint come from and go to. While a block is at work its matrices keep their shapes, with zeros in
/// the columns that go; rows are cut when the product behind them has said which.
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
    /// Keeps what is finished.
    pub work: &'a Work,
    /// What the walk has found out so far.
    pub state: Mutex<State>,
}

/// What a walk has found out.
#[derive(Default)]
pub struct State {
    /// Of each block that is done.
    kept: BTreeMap<usize, Kept>,
    /// Matrices as stored, whose rows are still to be cut.
    pending: Vec<(Role, Vec<f32>)>,
}

impl Surgeon<'_> {
    /// Writes what the walk has not: what no block holds, norms and biases. `done` are the tensors that are written; reports on all, in
    /// the plan's order.
    ///
    /// # Errors
    /// Reading or writing fails; the user cancels.
    pub fn write_others(
        &self,
        mut done: Vec<TensorReport>,
        reporter: &dyn Reporter,
    ) -> Result<Vec<TensorReport>, PipelineError> {
        let is_left = |cut: &&PlannedCut| !done.iter().any(|report| report.name == cut.name);
        let left: Vec<&PlannedCut> = self.plan.tensors.iter().filter(is_left).collect();
        reporter.begin("Writing", left.iter().map(|cut| cut.weights()).sum(), Unit::Weights);
        for cut in left {
            let tensor = &self.tensors[cut.at];
            let step = (CHUNK_WEIGHTS / tensor.columns()).max(1);
            let mut values = Vec::new();
            for first in (0..tensor.rows()).step_by(step) {
                if reporter.is_cancelled() {
                    return Err(PipelineError::Cancelled);
                }
                let rows = first..tensor.rows().min(first + step);
                self.reader.read(tensor, rows, &mut values, &mut Vec::new())?;
                if cut.shape != cut.shape_before {
                    values = self.cut_bias(cut, &values);
                }
                self.encode(cut, first * tensor.columns(), &values)?;
                reporter.advance(values.len() as u64);
            }
            done.push(report(cut, Errors::default()));
        }
        reporter.end();
        done.sort_by_key(|report| self.plan.tensors.iter().position(|cut| cut.name == report.name));
        Ok(done)
    }

    /// What stays of a bias.
    fn cut_bias(&self, cut: &PlannedCut, values: &[f32]) -> Vec<f32> {
        let state = self.state();
        let kept = cut
            .id
            .layer
            .and_then(|layer| state.kept.get(&layer))
            .and_then(|kept| kept.rows(cut.id.role, self.config));
        rows_of(values, 1, &kept.expect("only rows of blocks that are done are cut"))
    }

    /// What stays of block `layer`'s layer `role` in the plan.
    fn cut(&self, layer: usize, role: Role) -> &PlannedCut {
        let wanted = |cut: &&PlannedCut| cut.id.layer == Some(layer) && cut.id.role == role;
        self.plan.tensors.iter().find(wanted).expect("the walk visits blocks that stay")
    }

    /// Solves for what stays of a layer whose columns go, and notes which.
    fn choose(
        &self,
        (layer, role): (usize, Role),
        targets: &mut [f32],
        factor: &FeedbackFactor,
    ) -> Result<(), PruneError> {
        let (profile, widths) = (&self.profile.layers[layer], self.plan.shape.widths);
        let columns = if role == Role::Output {
            let place = (layer, self.config, widths);
            self.choice.queries(targets, factor, &profile.heads, place)?
        } else {
            let removed = self.config.intermediate_size - widths.channels;
            let gone = self.choice.channels(targets, factor, &profile.channels, (layer, removed))?;
            gone.kept(removed)
        };
        if self.plan.solves {
            solve(targets, &columns, factor)?;
        } else {
            keep_only(targets, factor.columns(), &columns);
        }
        let mut state = self.state();
        let kept = state.kept.entry(layer).or_default();
        if role == Role::Output {
            kept.key_values = Kept::key_values_of(&columns, self.config);
            kept.queries = columns;
        } else {
            kept.channels = columns;
        }
        Ok(())
    }

    /// Writes what stays of a whole layer (`values` in its old shape, as stored) and keeps it.
    fn write(&self, layer: usize, role: Role, values: &[f32]) -> Result<(), PipelineError> {
        let cut = self.cut(layer, role);
        let columns = cut.shape_before[1];
        let state = self.state();
        let kept = &state.kept[&layer];
        let staying = match (kept.rows(role, self.config), kept.columns(role)) {
            (Some(rows), _) => rows_of(values, columns, &rows),
            (_, Some(some)) => columns_of(values, columns, some),
            _ => values.to_vec(),
        };
        if let Some(some) = kept.columns(role) {
            let bytes: Vec<u8> = some.iter().flat_map(|column| (*column as u32).to_le_bytes()).collect();
            self.work.put(&columns_name(cut), &bytes)?;
        }
        drop(state);
        let bytes = self.encode(cut, 0, &staying)?;
        Ok(self.work.put(&cut.from, &bytes)?)
    }

    /// Writes values of a new tensor from flat index `first` on; their bytes.
    fn encode(&self, cut: &PlannedCut, first: usize, values: &[f32]) -> Result<Vec<u8>, PipelineError> {
        let bytes = encoded(cut, values, *cut.shape.last().unwrap_or(&1))?;
        self.writer.write(&cut.name, first, &bytes)?;
        Ok(bytes)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RoundTensors for Surgeon<'_> {
    fn effort(&self) -> Effort {
        self.effort
    }

    fn keeps_block(&self, layer: usize) -> bool {
        self.plan.shape.layers.contains(&layer)
    }

    fn round_linear(
        &self,
        layer: usize,
        role: Role,
        weights: Vec<f32>,
        mut targets: Vec<f32>,
        factor: &FeedbackFactor,
    ) -> Result<(TensorReport, Vec<f32>), PipelineError> {
        let cut = self.cut(layer, role);
        let (rows, columns) = (cut.shape_before[0], cut.shape_before[1]);
        let aim = targets.clone();
        if matches!(role, Role::Output | Role::Down) {
            self.choose((layer, role), &mut targets, factor).map_err(failed(cut))?;
        }
        let stored = as_stored(cut, &targets, columns)?;
        let mut errors = ErrorMeter::new(rows);
        let looked_at =
            Rows { first: 0, columns, weights: &weights, targets: &aim, rounded: &stored, scales: None };
        let plain = |mut weights: Vec<f32>| {
            if let Some(kept) = self.state().kept.get(&layer).and_then(|kept| kept.columns(role)) {
                keep_only(&mut weights, columns, kept);
            }
            Ok::<_, QuantError>(weights)
        };
        let inputs = InputStatistics::Covariance(factor.hessian());
        errors.add_beside(looked_at, inputs, plain).map_err(rounding(cut))?;
        if matches!(role, Role::Output | Role::Down) {
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

    /// The head stays as it is.
    fn rounds_head(&self) -> bool {
        false
    }

    fn round_head(&self, _: Vec<f32>, _: f64) -> Result<TensorReport, PipelineError> {
        unreachable!("the head is not pruned")
    }

    fn work(&self) -> &Work {
        self.work
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
        let columns: Vec<usize> = {
            let bytes = finished.bytes(&columns_name(self.cut(layer, behind)))?;
            bytes.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes) as usize).collect()
        };
        let mut state = self.state();
        let kept = state.kept.entry(layer).or_default();
        if behind == Role::Output {
            kept.key_values = Kept::key_values_of(&columns, self.config);
            kept.queries = columns;
        } else {
            kept.channels = columns;
        }
        let bytes = finished.bytes(&cut.from)?;
        self.writer.write(&cut.name, 0, &bytes)?;
        let width = cut.shape[1];
        let staying = stored::decode(cut.dtype, &bytes, width).map_err(rounding(cut))?;
        // back into the old shape, with zeros where something is cut out
        let columns = cut.shape_before[1];
        let mut values = vec![0.0; cut.shape_before[0] * columns];
        match (kept.rows(role, self.config), kept.columns(role)) {
            (Some(rows), _) => {
                for (row, staying) in rows.iter().zip(staying.chunks_exact(width)) {
                    values[row * columns..][..columns].copy_from_slice(staying);
                }
            }
            (_, Some(some)) => {
                for (row, staying) in values.chunks_exact_mut(columns).zip(staying.chunks_exact(width)) {
                    some.iter().zip(staying).for_each(|(column, value)| row[*column] = *value);
                }
            }
            _ => values = staying,
        }
        Ok(values)
    }

    fn restore_head(&self, _: &Finished<'_>) -> Result<(), PipelineError> {
        unreachable!("the head is not pruned")
    }

    fn report(&self, name: &str, errors: Errors) -> Option<TensorReport> {
        self.plan.tensors.iter().find(|cut| cut.name == name).map(|cut| report(cut, errors))
    }
}

/// Makes every other column zero.
pub(super) fn keep_only(values: &mut [f32], columns: usize, kept: &[usize]) {
    let gone = slmc_prune::structured::solve::others(kept, columns);
    for row in values.chunks_exact_mut(columns) {
        gone.iter().for_each(|column| row[*column] = 0.0);
    }
}

/// What the columns that stay of a layer are kept under in the work directory.
fn columns_name(cut: &PlannedCut) -> String {
    format!("columns of {}", cut.from)
}

fn encoded(cut: &PlannedCut, values: &[f32], columns: usize) -> Result<Vec<u8>, PipelineError> {
    stored::encode(cut.dtype, values, columns).map_err(rounding(cut))
}

fn as_stored(cut: &PlannedCut, values: &[f32], columns: usize) -> Result<Vec<f32>, PipelineError> {
    let bytes = encoded(cut, values, columns)?;
    stored::decode(cut.dtype, &bytes, columns).map_err(rounding(cut))
}

fn report(cut: &PlannedCut, errors: Errors) -> TensorReport {
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

fn failed(cut: &PlannedCut) -> impl Fn(PruneError) -> PipelineError {
    |source| PipelineError::Pruning { tensor: cut.from.clone(), source }
}

fn rounding(cut: &PlannedCut) -> impl Fn(QuantError) -> PipelineError {
    |source| PipelineError::Rounding { tensor: cut.from.clone(), source }
}
