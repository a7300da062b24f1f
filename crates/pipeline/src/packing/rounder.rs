//! One linear layer through GPTQ into the packed checkpoint.

use slmc_model::{ModelConfig, Role, TensorId};
use slmc_quant::gptq::{FeedbackFactor, IntOptions, quantize_int};
use slmc_quant::loss::InputStatistics;
use slmc_quant::rtn::dequantize_rows;
use slmc_quant::{Effort, IntPlan};

use super::PackedWriter;
use super::write::{encoded_bytes, report};
use crate::PipelineError;
use crate::export::{ErrorMeter, Errors, ExportTensor, RowReader, Rows, TensorReport};
use crate::gptq::RoundTensors;
use crate::work::{Finished, Work};
use crate::zeros::free;

/// Where the tensors of a packed checkpoint come from and go to.
pub struct PackRounder<'a> {
    /// The model.
    pub config: &'a ModelConfig,
    /// Reads them.
    pub reader: &'a RowReader<'a>,
    /// All tensors of the file.
    pub tensors: &'a [ExportTensor],
    /// Their grids.
    pub plan: &'a IntPlan,
    /// Takes them.
    pub writer: &'a PackedWriter,
    /// How values are chosen.
    pub options: IntOptions,
    /// How long to look for better values.
    pub effort: Effort,
    /// Keeps what is finished.
    pub work: &'a Work,
}

impl PackRounder<'_> {
    /// Where a linear layer stands among the tensors.
    fn position(&self, layer: usize, role: Role) -> usize {
        let name = self.config.arch.gguf_name(TensorId::block(layer, role));
        let at = self.tensors.iter().position(|t| Some(&t.name) == name.as_ref());
        at.expect("the model's tensors are written")
    }
}

impl RoundTensors for PackRounder<'_> {
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
        let (tensor, planned) = (&self.tensors[at], &self.plan.tensors[at]);
        let failed = |source| PipelineError::Rounding { tensor: planned.hf_name.clone(), source };
        let columns = factor.columns();
        let Some(grid) = planned.grid else {
            self.writer.write_values(planned, 0, &weights)?;
            return Ok((report(planned, None), weights));
        };
        let mut bytes = vec![0; encoded_bytes(grid, weights.len() / columns, columns).map_err(failed)?];
        let free = planned.zeros.map(|_| free(&weights));
        quantize_int(grid, &targets, free.as_deref(), factor, &self.options, &mut bytes).map_err(failed)?;
        self.writer.write_rows(planned, grid, 0, &bytes)?;
        self.work.put(&planned.hf_name, &bytes)?;
        let mut rounded = vec![0.0; weights.len()];
        dequantize_rows(grid, &bytes, columns, &mut rounded).map_err(failed)?;
        let (weights, targets, scales) = (&weights, &targets, self.reader.column_scales(tensor));
        let mut errors = ErrorMeter::new(tensor.rows());
        let rows = Rows { first: 0, columns, weights, targets, rounded: &rounded, scales };
        errors.add(grid, rows, InputStatistics::Covariance(factor.hessian())).map_err(failed)?;
        Ok((report(planned, Some(errors.finish())), rounded))
    }

    /// Readers of packed checkpoints expect the head in full precision.
    fn rounds_head(&self) -> bool {
        false
    }

    fn round_head(&self, _hessian: Vec<f32>, _damping: f64) -> Result<TensorReport, PipelineError> {
        unreachable!("this rounder takes no head")
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
        let at = self.position(layer, role);
        let planned = &self.plan.tensors[at];
        let Some(grid) = planned.grid else {
            // nothing was rounded: the checkpoint has it
            let (tensor, mut values) = (&self.tensors[at], Vec::new());
            self.reader.read(tensor, 0..tensor.rows(), &mut values, &mut Vec::new())?;
            self.writer.write_values(planned, 0, &values)?;
            return Ok(values);
        };
        let bytes = finished.bytes(&planned.hf_name)?;
        self.writer.write_rows(planned, grid, 0, &bytes)?;
        let mut values = vec![0.0; planned.weights() as usize];
        dequantize_rows(grid, &bytes, self.tensors[at].columns(), &mut values)
            .map_err(|source| PipelineError::Rounding { tensor: planned.hf_name.clone(), source })?;
        Ok(values)
    }

    fn restore_head(&self, _: &Finished<'_>) -> Result<(), PipelineError> {
        unreachable!("this rounder takes no head")
    }

    fn report(&self, name: &str, errors: Errors) -> Option<TensorReport> {
        let planned = self.plan.tensors.iter().find(|planned| planned.hf_name == name)?;
        Some(report(planned, Some(errors)))
    }
}
