//! One tensor from the checkpoint through GPTQ into the file.

use slmc_gguf::container::Writer;
use slmc_model::arch::unpermute_rows;
use slmc_model::{ModelConfig, Role, TensorId};
use slmc_quant::gptq::{self, FeedbackFactor};
use slmc_quant::loss::relative_error;
use slmc_quant::rtn::dequantize_rows;
use slmc_quant::{Effort, Grid, Plan, PlannedTensor, QuantError};

use crate::PipelineError;
use crate::export::{ExportTensor, RowReader, TensorReport};
use crate::work::{Finished, Work};

/// Takes a model's matrices when their turn comes: rounds them and writes them, to whatever grid and container.
pub trait RoundTensors {
    /// Rounds and writes a linear layer; what became of it, and its rounded weights in the checkpoint's order.
    ///
    /// # Errors
    /// Reading, rounding or writing fails.
    fn round_linear(
        &self,
        layer: usize,
        role: Role,
        factor: &FeedbackFactor,
    ) -> Result<(TensorReport, Vec<f32>), PipelineError>;

    /// Whether the head is rounded too, so that its Hessian is wanted.
    fn rounds_head(&self) -> bool;

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

    /// What became of a tensor, from its name in the file and its error; `None` if the file has no such tensor.
    fn report(&self, name: &str, relative_error: f64) -> Option<TensorReport>;
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
    /// Weights that are rounded together.
    pub chunk_weights: usize,
    /// Keeps what is finished.
    pub work: &'a Work,
}

impl RoundTensors for Rounder<'_> {
    fn round_linear(
        &self,
        layer: usize,
        role: Role,
        factor: &FeedbackFactor,
    ) -> Result<(TensorReport, Vec<f32>), PipelineError> {
        let mut rounded = Vec::with_capacity(self.config.shape(role).iter().product());
        let report = self.round(TensorId::block(layer, role), factor, |values| rounded.extend(values))?;
        Ok((report, self.as_in_the_checkpoint(role, rounded, factor.columns())))
    }

    fn rounds_head(&self) -> bool {
        true
    }

    fn round_head(&self, hessian: Vec<f32>, damping: f64) -> Result<TensorReport, PipelineError> {
        let factor = FeedbackFactor::new(hessian, self.config.hidden_size, damping)
            .map_err(|source| PipelineError::Rounding { tensor: "the head".into(), source })?;
        self.round(self.config.head(), &factor, |_| ())
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
        let (name, bytes) = self.restore(finished, TensorId::block(layer, role))?;
        let planned = self.plan.tensor(&name).expect("the model's tensors are planned");
        let mut rounded = vec![0.0; planned.weights() as usize];
        dequantize_rows(planned.ty, &bytes, planned.columns(), &mut rounded)
            .map_err(|source| PipelineError::Rounding { tensor: name, source })?;
        Ok(self.as_in_the_checkpoint(role, rounded, planned.columns()))
    }

    fn restore_head(&self, finished: &Finished<'_>) -> Result<(), PipelineError> {
        self.restore(finished, self.config.head()).map(drop)
    }

    fn report(&self, name: &str, relative_error: f64) -> Option<TensorReport> {
        self.plan.tensor(name).map(|planned| report(planned, relative_error))
    }
}

impl Rounder<'_> {
    /// A tensor's bytes, which are also written.
    fn restore(&self, finished: &Finished<'_>, id: TensorId) -> Result<(String, Vec<u8>), PipelineError> {
        let name = self.config.arch.gguf_name(id).expect("an architecture names every tensor it has");
        let bytes = finished.bytes(&name)?;
        self.writer.write(&name, 0, &bytes)?;
        Ok((name, bytes))
    }

    /// Rows in the order of the file, put into the order of the checkpoint.
    fn as_in_the_checkpoint(&self, role: Role, rows: Vec<f32>, columns: usize) -> Vec<f32> {
        let Some(heads) = self.config.permuted_heads(role) else { return rows };
        let mut ordered = vec![0.0; rows.len()];
        unpermute_rows(&rows, &mut ordered, heads, columns);
        ordered
    }

    fn round(
        &self,
        id: TensorId,
        factor: &FeedbackFactor,
        mut keep: impl FnMut(&[f32]),
    ) -> Result<TensorReport, PipelineError> {
        let name = self.config.arch.gguf_name(id).expect("an architecture names every tensor it has");
        let at = self.tensors.iter().position(|t| t.name == name).expect("the model's tensors are exported");
        let (tensor, planned) = (&self.tensors[at], &self.plan.tensors[at]);
        let failed = |source: QuantError| PipelineError::Rounding { tensor: name.clone(), source };
        let columns = tensor.columns();
        let row_bytes = Grid::row_bytes(planned.ty, columns).ok_or_else(|| {
            let (grid, block_len) = (planned.ty.to_string(), planned.ty.block_len());
            failed(QuantError::Columns { grid, block_len, columns })
        })?;
        // heads whose rows are interleaved are read whole
        let unit = self.reader.row_unit(tensor);
        let step = (self.chunk_weights / (columns * unit)).max(1) * unit;
        let (mut weights, mut scratch, mut bytes, mut rounded) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut error, mut energy) = (0.0, 0.0);
        for first in (0..tensor.rows()).step_by(step) {
            let rows = first..tensor.rows().min(first + step);
            self.reader.read(tensor, rows.clone(), &mut weights, &mut scratch)?;
            bytes.resize(rows.len() * row_bytes, 0);
            gptq::quantize(planned.ty, &weights, factor, self.effort.passes(), &mut bytes).map_err(failed)?;
            self.writer.write(&name, (first * row_bytes) as u64, &bytes)?;
            self.work.put(&name, &bytes)?;
            rounded.resize(weights.len(), 0.0);
            dequantize_rows(planned.ty, &bytes, columns, &mut rounded).map_err(failed)?;
            let part: f64 = weights.iter().map(|w| f64::from(*w).powi(2)).sum();
            error += relative_error(&weights, &rounded).map_err(failed)?.powi(2) * part;
            energy += part;
            keep(&rounded);
        }
        Ok(report(planned, if energy > 0.0 { (error / energy).sqrt() } else { 0.0 }))
    }
}

fn report(planned: &PlannedTensor, relative_error: f64) -> TensorReport {
    TensorReport {
        name: planned.name.clone(),
        ty: planned.ty.into(),
        shape: planned.shape.clone(),
        bytes: planned.bytes,
        relative_error,
    }
}
