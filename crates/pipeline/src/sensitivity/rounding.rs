//! A matrix as a method would store it.

use std::ops::Range;

use slmc_gguf::TensorType;
use slmc_gguf::activation::ActivationFormat;
use slmc_model::decoder::KvPrecision;
use slmc_model::{ModelConfig, ModelError, TensorId, Weight, WeightSource};
use slmc_quant::gptq::{self, FeedbackFactor, Order};
use slmc_quant::rtn::{dequantize_rows, quantize_rows};
use slmc_quant::{Grid, QuantError};

use crate::zeros::free;

/// What a method knows of a matrix's inputs when it rounds it.
pub enum Knowledge {
    /// Nothing.
    Nothing,
    /// What each column's squared error weighs, `[d_in]`.
    Importance(Vec<f32>),
    /// The inputs' Hessian, and how many passes of coordinate descent follow the error feedback.
    Hessian {
        /// Its factor.
        factor: FeedbackFactor,
        /// The passes.
        passes: usize,
    },
}

/// How long to look for better values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// As long as the method will.
    Full,
    /// As short as the method can: enough to compare types, whose errors refinement lowers alike.
    Least,
}

impl Knowledge {
    /// `weights` (`[n, columns]`) stored as `ty`; where asked, zeros stay zeros in types that hold them.
    ///
    /// # Errors
    /// Lengths that do not fit; weights that are not finite.
    pub fn encode(
        &self,
        ty: TensorType,
        weights: &[f32],
        columns: usize,
        care: Care,
        hold_zeros: bool,
    ) -> Result<Vec<u8>, QuantError> {
        let row_bytes = Grid::row_bytes(ty, columns).ok_or_else(|| QuantError::Columns {
            grid: ty.to_string(),
            block_len: ty.block_len(),
            columns,
        })?;
        let mut bytes = vec![0; weights.len() / columns * row_bytes];
        match self {
            Self::Nothing => quantize_rows(ty, weights, columns, None, &mut bytes)?,
            Self::Importance(importance) => {
                quantize_rows(ty, weights, columns, Some(importance), &mut bytes)?;
            }
            Self::Hessian { factor, passes } => {
                let passes = if care == Care::Full { *passes } else { 0 };
                let free = (hold_zeros && ty.holds_zero()).then(|| free(weights));
                gptq::quantize(ty, weights, free.as_deref(), factor, passes, Order::Natural, &mut bytes)?;
            }
        }
        Ok(bytes)
    }

    /// Whether [`Care`] changes anything.
    pub fn takes_care(&self) -> bool {
        matches!(self, Self::Hessian { passes: 1.., .. })
    }
}

/// What `bytes` of type `ty` read as, in rows of `columns`.
///
/// # Errors
/// Lengths that do not fit.
pub fn decode(ty: TensorType, bytes: &[u8], columns: usize) -> Result<Vec<f32>, QuantError> {
    let mut values = vec![0.0; bytes.len() / ty.block_bytes() * ty.block_len()];
    dequantize_rows(ty, bytes, columns, &mut values)?;
    Ok(values)
}

/// A model whose head is stored in another way, a slice at a time.
pub struct ChangedHead<'a> {
    /// The model.
    pub source: &'a dyn WeightSource,
    /// What its head is rounded to, if at all.
    pub rounding: Option<(TensorType, &'a Knowledge, Care)>,
    /// What the head's inputs are rounded to, where it fits.
    pub activation: ActivationFormat,
}

impl WeightSource for ChangedHead<'_> {
    fn config(&self) -> &ModelConfig {
        self.source.config()
    }

    fn load(&self, id: TensorId) -> Result<Weight, ModelError> {
        let rows = self.config().shape(id.role)[0];
        self.load_rows(id, 0..rows)
    }

    fn load_rows(&self, id: TensorId, rows: Range<usize>) -> Result<Weight, ModelError> {
        let mut weight = self.source.load_rows(id, rows)?;
        if id == self.config().head() {
            if let Some((ty, knowledge, care)) = self.rounding {
                let columns = weight.shape[1];
                weight.values = knowledge
                    .encode(ty, &weight.values, columns, care, false)
                    .and_then(|bytes| decode(ty, &bytes, columns))
                    .map_err(|error| ModelError::Change { id, reason: Box::new(error) })?;
            }
            if weight.shape[1].is_multiple_of(self.activation.block_len()) {
                weight.activation = self.activation;
            }
        }
        Ok(weight)
    }

    fn release(&self, id: TensorId) {
        self.source.release(id);
    }

    fn kv_precision(&self) -> KvPrecision {
        self.source.kv_precision()
    }
}
