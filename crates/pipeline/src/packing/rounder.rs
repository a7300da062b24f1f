//! One linear layer from the checkpoint through GPTQ into the packed one.

use slmc_model::{ModelConfig, Role, TensorId};
use slmc_quant::IntPlan;
use slmc_quant::gptq::{FeedbackFactor, IntOptions, quantize_int};
use slmc_quant::rtn::dequantize_rows;

use super::PackedWriter;
use super::write::{report, write_tensor};
use crate::PipelineError;
use crate::export::{ExportTensor, RowReader, TensorReport};
use crate::gptq::RoundTensors;
use crate::work::{Finished, Work};

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
    fn round_linear(
        &self,
        layer: usize,
        role: Role,
        factor: &FeedbackFactor,
    ) -> Result<(TensorReport, Vec<f32>), PipelineError> {
        let at = self.position(layer, role);
        let planned = &self.plan.tensors[at];
        let mut values = Vec::new();
        let report = write_tensor(
            self.reader,
            &self.tensors[at],
            planned,
            self.writer,
            |grid, rows, _, out| quantize_int(grid, rows, factor, &self.options, out),
            |rounded, bytes| {
                values.extend_from_slice(rounded);
                Ok(self.work.put(&planned.hf_name, bytes)?)
            },
        )?;
        Ok((report, values))
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
            let mut values = Vec::new();
            let keep = |kept: &[f32], _: &[u8]| {
                values.extend_from_slice(kept);
                Ok(())
            };
            let none = |_, _: &[f32], _, _: &mut [u8]| unreachable!("a tensor without a grid is not encoded");
            write_tensor(self.reader, &self.tensors[at], planned, self.writer, none, keep)?;
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

    fn report(&self, name: &str, relative_error: f64) -> Option<TensorReport> {
        let planned = self.plan.tensors.iter().find(|planned| planned.hf_name == name)?;
        Some(report(planned, relative_error))
    }
}
