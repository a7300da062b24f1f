//! One linear layer from the checkpoint through GPTQ into the packed one.

use slmc_model::{ModelConfig, Role, TensorId};
use slmc_quant::IntPlan;
use slmc_quant::gptq::{FeedbackFactor, IntOptions, quantize_int};

use super::PackedWriter;
use super::write::write_tensor;
use crate::PipelineError;
use crate::export::{ExportTensor, RowReader, TensorReport};
use crate::gptq::RoundTensors;

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
}

impl RoundTensors for PackRounder<'_> {
    fn round_linear(
        &self,
        layer: usize,
        role: Role,
        factor: &FeedbackFactor,
    ) -> Result<(TensorReport, Vec<f32>), PipelineError> {
        let name = self.config.arch.gguf_name(TensorId::block(layer, role));
        let at = self.tensors.iter().position(|t| Some(&t.name) == name.as_ref());
        let at = at.expect("the model's tensors are written");
        let mut values = Vec::new();
        let report = write_tensor(
            self.reader,
            &self.tensors[at],
            &self.plan.tensors[at],
            self.writer,
            |grid, rows, _, out| quantize_int(grid, rows, factor, &self.options, out),
            |rounded| {
                values.extend_from_slice(rounded);
                Ok(())
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
}
