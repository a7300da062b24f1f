//! The tensors that no walk writes: all of them where there is none, and else what no block holds, norms and biases.

use slmc_model::{LinearInput, Role};

use super::cutting::{cut_out, keep_only};
use super::end::End;
use super::plan::PlannedCut;
use super::surgeon::{Surgeon, ends_half, failed, report};
use crate::PipelineError;
use crate::export::{Errors, TensorReport};
use crate::progress::{Reporter, Unit};

/// Weights that are read and written together.
const CHUNK_WEIGHTS: usize = 1 << 22;

impl Surgeon<'_> {
    /// Cuts and writes the linear layers of all blocks that stay, as they are: nothing is run through the model.
    ///
    /// # Errors
    /// Reading or writing fails; the user cancels.
    pub fn cut_plainly(&self, reporter: &dyn Reporter) -> Result<Vec<TensorReport>, PipelineError> {
        let layers = &self.plan.shape.layers;
        reporter.begin("Cutting", layers.len() as u64, Unit::Steps);
        let mut reports = Vec::new();
        for &layer in layers {
            if reporter.is_cancelled() {
                return Err(PipelineError::Cancelled);
            }
            // those that say what goes come first
            let roles = LinearInput::ALL.iter().flat_map(|input| input.roles(self.config));
            let (ending, others): (Vec<Role>, Vec<Role>) = roles.partition(|role| ends_half(*role));
            for role in ending.into_iter().chain(others) {
                let cut = self.cut(layer, role);
                let tensor = &self.tensors[cut.at.expect("the original has all linear layers")];
                let mut values = Vec::new();
                self.reader.read(tensor, 0..tensor.rows(), &mut values, &mut Vec::new())?;
                if ends_half(role) {
                    keep_only(&mut values, tensor.columns(), self.plan.shape.staying(role));
                    let whole = values.clone();
                    self.choose((layer, role), &mut values, None).map_err(failed(cut))?;
                    self.compensate((layer, role), &whole, &values)?;
                }
                self.write(layer, role, &values)?;
                reports.push(report(cut, Errors::default()));
            }
            reporter.advance(1);
        }
        reporter.end();
        Ok(reports)
    }

    /// Writes what is not written yet. `done` are the tensors that are; reports on all, in the plan's order.
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
            match cut.shape.len() {
                1 => self.write_vector(cut)?,
                _ => self.write_in_pieces(cut, reporter)?,
            }
            done.push(report(cut, Errors::default()));
            reporter.advance(cut.weights());
        }
        reporter.end();
        done.sort_by_key(|report| self.plan.tensors.iter().position(|cut| cut.name == report.name));
        Ok(done)
    }

    /// The embedding or the head.
    fn write_in_pieces(&self, cut: &PlannedCut, reporter: &dyn Reporter) -> Result<(), PipelineError> {
        let tensor = &self.tensors[cut.at.expect("the original has all matrices")];
        let (columns, step) = (tensor.columns(), (CHUNK_WEIGHTS / tensor.columns()).max(1));
        let mut values = Vec::new();
        for first in (0..tensor.rows()).step_by(step) {
            if reporter.is_cancelled() {
                return Err(PipelineError::Cancelled);
            }
            let rows = first..tensor.rows().min(first + step);
            self.reader.read(tensor, rows, &mut values, &mut Vec::new())?;
            if let (Role::Head, Some(End::Head(correction))) = (cut.id.role, &self.state().end) {
                let failed = |source| PipelineError::Rounding { tensor: cut.from.clone(), source };
                correction.apply(&mut values).map_err(failed)?;
            }
            let staying = cut_out(&values, columns, self.plan.shape.staying(cut.id.role));
            self.encode(cut, first * cut.shape[1], &staying)?;
        }
        Ok(())
    }

    /// A norm or a bias.
    fn write_vector(&self, cut: &PlannedCut) -> Result<(), PipelineError> {
        let (layer, role) = (cut.id.layer, cut.id.role);
        let mut values = vec![0.0; cut.shape_before[0]];
        if let Some(at) = cut.at {
            self.reader.read(&self.tensors[at], 0..1, &mut values, &mut Vec::new())?;
        }
        let linear = Role::LINEAR.into_iter().find(|linear| linear.bias() == Some(role));
        let state = self.state();
        if let (Some(layer), Some(linear)) = (layer, linear)
            && let Some(more) = state.biases.get(&(layer, linear))
        {
            values.iter_mut().zip(more).for_each(|(value, more)| *value += more);
        }
        if self.plan.shape.dimensions.is_some()
            && matches!(role, Role::InputNorm | Role::PostNorm | Role::FinalNorm)
        {
            let narrowing = self.plan.shape.narrowing(self.config).sqrt() as f32;
            match &state.end {
                Some(End::Norm(solved)) if role == Role::FinalNorm => values.copy_from_slice(solved),
                _ => {
                    let factor = self.shrinkage(layer, role);
                    values.iter_mut().for_each(|value| *value *= factor);
                }
            }
            values.iter_mut().for_each(|value| *value *= narrowing);
        }
        let kept = layer.and_then(|layer| state.kept.get(&layer)).cloned().unwrap_or_default();
        drop(state);
        let staying = cut_out(&values, 1, self.staying(&kept, role));
        self.encode(cut, 0, &staying).map(drop)
    }
}
