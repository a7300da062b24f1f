//! One tensor from the checkpoint through GPTQ into the file.

use slmc_gguf::container::Writer;
use slmc_model::arch::{permute_rows, unpermute_rows};
use slmc_model::{Block, ModelConfig, Role, TensorId};
use slmc_quant::gptq::{self, FeedbackFactor, Order, damping_for};
use slmc_quant::loss::InputStatistics;
use slmc_quant::rtn::dequantize_rows;
use slmc_quant::{Effort, Grid, Plan, PlannedTensor, QuantError};

use super::DAMPING;
use crate::PipelineError;
use crate::export::{ErrorMeter, Errors, ExportTensor, RowReader, Rows, TensorReport};
use crate::hidden::HiddenStates;
use crate::walker::Walk;
use crate::work::{Finished, Work};
use crate::zeros::free;

/// Takes a model's matrices when their turn comes: rounds them and writes them, to whatever grid and container.
pub trait RoundTensors {
    /// Of how many batches one runs through the float model too: see [`Effort::follows_float_model_every`].
    fn follows_float_model_every(&self) -> Option<usize>;

    /// What is added to the diagonal of the Hessian of so many tokens, in parts of its median. Rounding towards the float model's outputs
    /// wants more of it where tokens are few than rounding towards the weights does: both were measured.
    fn damping(&self, columns: usize, tokens: u64) -> f64 {
        match self.follows_float_model_every() {
            Some(_) => damping_for(columns, tokens),
            None => DAMPING,
        }
    }

    /// Rounds a linear layer towards `targets` and writes it; what became of it, and its rounded weights. `weights`, `targets`
    /// and what is returned are `[d_out, d_in]`, rows in the checkpoint's order.
    ///
    /// # Errors
    /// Rounding or writing fails.
    fn round_linear(
        &self,
        layer: usize,
        role: Role,
        weights: Vec<f32>,
        targets: Vec<f32>,
        factor: &FeedbackFactor,
    ) -> Result<(TensorReport, Vec<f32>), PipelineError>;

    /// Whether a block is part of the model that is written. One that is not is left out of the rounded model, and what follows makes up
    /// for it.
    fn keeps_block(&self, layer: usize) -> bool {
        let _ = layer;
        true
    }

    /// The dimensions of the residual stream that the rounded model has, ascending, where it has fewer: the others are zero from the
    /// embedding on.
    fn stream_dimensions(&self) -> Option<&[usize]> {
        None
    }

    /// Changes what else is another in the rounded model, before a block's matrices are rounded.
    ///
    /// # Errors
    /// The block does not take it.
    fn prepare(&self, block: &mut Block) -> Result<(), PipelineError> {
        let _ = block;
        Ok(())
    }

    /// What a layer that was rounded or restored gives beside its product, `[d_out]`.
    fn added_bias(&self, layer: usize, role: Role) -> Option<Vec<f32>> {
        let _ = (layer, role);
        None
    }

    /// Whether [`RoundTensors::look_at_end`] has anything to look for.
    fn looks_at_end(&self) -> bool {
        false
    }

    /// Looks at the hidden states behind the last block, and at those of the float model of every so many batches, where it ran beside.
    ///
    /// # Errors
    /// Whatever goes wrong.
    fn look_at_end(
        &self,
        walk: &Walk<'_>,
        rounded: &HiddenStates,
        float: Option<(&HiddenStates, usize)>,
    ) -> Result<(), PipelineError> {
        let _ = (walk, rounded, float);
        Ok(())
    }

    /// Whether the head is rounded too, so that its Hessian is wanted.
    fn rounds_head(&self) -> bool;

    /// Whether anybody wants the hidden states behind the last block.
    fn needs_end(&self) -> bool {
        self.rounds_head() || self.looks_at_end()
    }

    /// Rounds and writes the head, or the embedding that is also the head.
    ///
    /// # Errors
    /// The Hessian cannot be factored; reading, rounding or writing fails.
    fn round_head(&self, hessian: Vec<f32>, damping: f64) -> Result<TensorReport, PipelineError>;

    /// Where everything that is rounded is kept until the file is whole.
    fn work(&self) -> &Work;

    /// Writes a linear layer as an earlier run rounded it; its values in the checkpoint's order.
    ///
    /// # Errors
    /// It is not as it was kept; writing fails.
    fn restore_linear(
        &self,
        finished: &Finished<'_>,
        layer: usize,
        role: Role,
    ) -> Result<Vec<f32>, PipelineError>;

    /// The same for the head, if there is one to round.
    ///
    /// # Errors
    /// As [`RoundTensors::restore_linear`].
    fn restore_head(&self, finished: &Finished<'_>) -> Result<(), PipelineError>;

    /// What became of a tensor, from its name in the file and its errors; `None` if the file has no such tensor.
    fn report(&self, name: &str, errors: Errors) -> Option<TensorReport>;
}

/// Where the tensors of a GGUF file come from and go to.
pub struct Rounder<'a> {
    /// The model.
    pub config: &'a ModelConfig,
    /// Reads them.
    pub reader: &'a RowReader<'a>,
    /// All tensors of the file.
    pub tensors: &'a [ExportTensor],
    /// Their types.
    pub plan: &'a Plan,
    /// Takes them.
    pub writer: &'a Writer,
    /// How long to look for better values.
    pub effort: Effort,
    /// Which blocks are rounded first.
    pub order: Order,
    /// Weights of the head that are rounded together.
    pub chunk_weights: usize,
    /// Keeps what is finished.
    pub work: &'a Work,
}

impl RoundTensors for Rounder<'_> {
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
        let columns = factor.columns();
        let [weights, targets] =
            [weights, targets].map(|rows| self.reordered(role, rows, columns, permute_rows));
        let tensor = self.tensor(TensorId::block(layer, role));
        let mut errors = ErrorMeter::new(tensor.rows());
        let rounded = self.round(tensor, &mut errors, 0, &weights, &targets, factor)?;
        let report = report(self.planned(tensor), errors.finish());
        Ok((report, self.reordered(role, rounded, columns, unpermute_rows)))
    }

    fn rounds_head(&self) -> bool {
        true
    }

    fn round_head(&self, hessian: Vec<f32>, damping: f64) -> Result<TensorReport, PipelineError> {
        let factor = FeedbackFactor::new(hessian, self.config.hidden_size, damping)
            .map_err(|source| PipelineError::Rounding { tensor: "the head".into(), source })?;
        let tensor = self.tensor(self.config.head());
        let mut errors = ErrorMeter::new(tensor.rows());
        let (mut weights, mut scratch) = (Vec::new(), Vec::new());
        let step = (self.chunk_weights / tensor.columns()).max(1);
        for first in (0..tensor.rows()).step_by(step) {
            let rows = first..tensor.rows().min(first + step);
            self.reader.read(tensor, rows, &mut weights, &mut scratch)?;
            self.round(tensor, &mut errors, first, &weights, &weights, &factor)?;
        }
        Ok(report(self.planned(tensor), errors.finish()))
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
        let (tensor, bytes) = self.restore(finished, TensorId::block(layer, role))?;
        let mut rounded = vec![0.0; tensor.rows() * tensor.columns()];
        dequantize_rows(self.planned(tensor).ty, &bytes, tensor.columns(), &mut rounded)
            .map_err(|source| PipelineError::Rounding { tensor: tensor.name.clone(), source })?;
        Ok(self.reordered(role, rounded, tensor.columns(), unpermute_rows))
    }

    fn restore_head(&self, finished: &Finished<'_>) -> Result<(), PipelineError> {
        self.restore(finished, self.config.head()).map(drop)
    }

    fn report(&self, name: &str, errors: Errors) -> Option<TensorReport> {
        self.plan.tensor(name).map(|planned| report(planned, errors))
    }
}

/// From rows (`[n, columns]`), into room for as many, heads, columns: another order of the rows inside the heads.
type Reordering = fn(&[f32], &mut [f32], usize, usize);

impl Rounder<'_> {
    fn tensor(&self, id: TensorId) -> &ExportTensor {
        let name = self.config.arch.gguf_name(id).expect("an architecture names every tensor it has");
        self.tensors.iter().find(|t| t.name == name).expect("the model's tensors are exported")
    }

    fn planned(&self, tensor: &ExportTensor) -> &PlannedTensor {
        self.plan.tensor(&tensor.name).expect("every exported tensor is planned")
    }

    /// A tensor's bytes, which are also written.
    fn restore(
        &self,
        finished: &Finished<'_>,
        id: TensorId,
    ) -> Result<(&ExportTensor, Vec<u8>), PipelineError> {
        let tensor = self.tensor(id);
        let bytes = finished.bytes(&tensor.name)?;
        self.writer.write(&tensor.name, 0, &bytes)?;
        Ok((tensor, bytes))
    }

    /// From the checkpoint's order of rows to the file's or back, where they differ.
    fn reordered(&self, role: Role, rows: Vec<f32>, columns: usize, order: Reordering) -> Vec<f32> {
        let Some(heads) = self.config.permuted_heads(role) else { return rows };
        let mut ordered = vec![0.0; rows.len()];
        order(&rows, &mut ordered, heads, columns);
        ordered
    }

    /// Rounds rows from number `first` on, writes them, and returns them.
    fn round(
        &self,
        tensor: &ExportTensor,
        errors: &mut ErrorMeter,
        first: usize,
        weights: &[f32],
        targets: &[f32],
        factor: &FeedbackFactor,
    ) -> Result<Vec<f32>, PipelineError> {
        let (ty, columns) = (self.planned(tensor).ty, tensor.columns());
        let failed = |source: QuantError| PipelineError::Rounding { tensor: tensor.name.clone(), source };
        let row_bytes = Grid::row_bytes(ty, columns).ok_or_else(|| {
            let (grid, block_len) = (ty.to_string(), ty.block_len());
            failed(QuantError::Columns { grid, block_len, columns })
        })?;
        let mut bytes = vec![0; weights.len() / columns * row_bytes];
        let passes = self.effort.passes();
        let free = self.planned(tensor).zeros.filter(|zeros| zeros.held).map(|_| free(weights));
        gptq::quantize(ty, targets, free.as_deref(), factor, passes, self.order, &mut bytes)
            .map_err(failed)?;
        self.writer.write(&tensor.name, (first * row_bytes) as u64, &bytes)?;
        self.work.put(&tensor.name, &bytes)?;
        let mut rounded = vec![0.0; weights.len()];
        dequantize_rows(ty, &bytes, columns, &mut rounded).map_err(failed)?;
        let scales = self.reader.column_scales(tensor);
        let rows = Rows { first, columns, weights, targets, rounded: &rounded, scales };
        errors.add(ty, rows, InputStatistics::Covariance(factor.hessian())).map_err(failed)?;
        Ok(rounded)
    }
}

fn report(planned: &PlannedTensor, errors: Errors) -> TensorReport {
    TensorReport {
        name: planned.name.clone(),
        ty: planned.ty.into(),
        shape: planned.shape.clone(),
        bytes: planned.bytes,
        relative_error: errors.weights,
        output_error: errors.outputs,
        zeros: None,
    }
}
