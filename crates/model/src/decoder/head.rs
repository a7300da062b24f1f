//! The residual stream to logits, a range of the vocabulary at a time.

use std::ops::Range;

use burn::tensor::{Device as BurnDevice, Gradients, Tensor};

use super::linear::{open_matrix, round};
use crate::arch::{Role, TensorId};
use crate::error::ModelError;
use crate::host;
use crate::ops::{self, LogitTransform, Matrix};
use crate::source::WeightSource;
use slmc_gguf::activation::ActivationFormat;

/// The norm after the last block.
#[derive(Clone, Debug)]
pub struct Head {
    norm: Tensor<1>,
    epsilon: f64,
    weight: TensorId,
    device: BurnDevice,
}

/// Some rows of the output head: the logits of a range of tokens.
#[derive(Clone, Debug)]
pub struct HeadRows {
    weight: Matrix,
    activation: ActivationFormat,
    transform: LogitTransform,
    rows: Range<usize>,
}

impl Head {
    /// Loads the final norm.
    ///
    /// # Errors
    /// Whatever the source reports.
    pub fn load(source: &dyn WeightSource, device: &BurnDevice) -> Result<Self, ModelError> {
        let config = source.config();
        let values = source.load(TensorId::global(Role::FinalNorm))?.values;
        let norm = host::parameter(values, [config.hidden_size], device);
        Ok(Self { norm, epsilon: config.rms_norm_eps, weight: config.head(), device: device.clone() })
    }

    /// The residual stream through the final norm: `[tokens, hidden_size]` both.
    pub fn normalize(&self, hidden: &Tensor<2>) -> Tensor<2> {
        ops::rms_norm(hidden, &self.norm, self.epsilon)
    }

    /// Takes the gradient of the norm's weights out of those of a backward pass; `None` where it did not reach them.
    pub fn gradient(&self, gradients: &mut Gradients) -> Option<Vec<f32>> {
        self.norm.grad_remove(gradients).map(host::into_vec)
    }

    /// Loads the weights for the logits of tokens `rows`, from the head or the tied embedding.
    ///
    /// # Errors
    /// Rows beyond the vocabulary; whatever the source reports.
    pub fn load_rows(&self, source: &dyn WeightSource, rows: Range<usize>) -> Result<HeadRows, ModelError> {
        let weight = source.load_rows(self.weight, rows.clone())?;
        let shape = [rows.len(), source.config().hidden_size];
        let matrix = Matrix::new(weight.values, shape, &self.device);
        let transform = source.config().logits;
        Ok(HeadRows { weight: matrix, activation: weight.activation, transform, rows })
    }

    /// The weights for all logits, left where they are stored if the source and the device allow that.
    ///
    /// # Errors
    /// Whatever the source reports.
    pub fn open_rows(&self, source: &dyn WeightSource) -> Result<HeadRows, ModelError> {
        let config = source.config();
        let shape = [config.vocab_size, config.hidden_size];
        let (weight, activation) = open_matrix(source, self.weight, shape, &self.device)?;
        Ok(HeadRows { weight, activation, transform: config.logits, rows: 0..config.vocab_size })
    }
}

impl HeadRows {
    /// The tokens these logits are of.
    pub fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// Logits `[tokens, rows]` of the normed residual stream `[tokens, hidden_size]`.
    pub fn logits(&self, normed: &Tensor<2>) -> Tensor<2> {
        self.transform.of(ops::linear(&round(normed, self.activation), &self.weight, None))
    }
}
