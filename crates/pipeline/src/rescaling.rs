//! The exact rescaling of a float model: vectors that rows and columns of its tensors are multiplied with.
//!
//! AWQ finds them; export applies them while it reads. A tensor without an entry is read as it is.

use std::collections::HashMap;
use std::ops::Range;

use slmc_model::decoder::KvPrecision;
use slmc_model::{ModelConfig, ModelError, TensorId, Weight, WeightSource};

/// What one tensor is multiplied with. Rows are counted as in the checkpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TensorScales {
    /// `[d_out]`; for a vector, one scale a value.
    pub rows: Option<Vec<f32>>,
    /// `[d_in]`.
    pub columns: Option<Vec<f32>>,
}

/// Scales by GGUF tensor name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rescaling {
    tensors: HashMap<String, TensorScales>,
}

impl Rescaling {
    /// Multiplies the tensor's columns by `scales` (`[d_in]`), on top of what is there.
    pub fn multiply_columns(&mut self, tensor: &str, scales: &[f32]) {
        let entry = self.tensors.entry(tensor.to_owned()).or_default();
        multiply(&mut entry.columns, scales.iter().copied());
    }

    /// Divides the tensor's rows (the values of a vector) by `scales` (`[d_out]`), on top of what is there.
    pub fn divide_rows(&mut self, tensor: &str, scales: &[f32]) {
        let entry = self.tensors.entry(tensor.to_owned()).or_default();
        multiply(&mut entry.rows, scales.iter().map(|s| 1.0 / s));
    }

    /// Every tensor that is multiplied with something, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &TensorScales)> {
        self.tensors.iter().map(|(name, scales)| (name.as_str(), scales))
    }

    /// Multiplies the tensor with these scales and nothing else.
    pub fn insert(&mut self, tensor: &str, scales: TensorScales) {
        self.tensors.insert(tensor.to_owned(), scales);
    }

    /// What this tensor is multiplied with, if with anything.
    pub fn of(&self, tensor: &str) -> Option<&TensorScales> {
        self.tensors.get(tensor)
    }
}

impl TensorScales {
    /// Multiplies rows `first_row..` of a matrix of `columns`, or for `columns` 1 the values of a vector.
    pub fn apply(&self, values: &mut [f32], columns: usize, first_row: usize) {
        for (i, row) in values.chunks_exact_mut(columns).enumerate() {
            if let Some(columns) = &self.columns {
                row.iter_mut().zip(columns).for_each(|(v, s)| *v *= s);
            }
            if let Some(rows) = &self.rows {
                let s = rows[first_row + i];
                row.iter_mut().for_each(|v| *v *= s);
            }
        }
    }
}

/// The rescaled float model.
pub struct RescaledSource<'a> {
    source: &'a dyn WeightSource,
    rescaling: &'a Rescaling,
}

impl<'a> RescaledSource<'a> {
    /// `source` with `rescaling` applied to whatever is read.
    pub fn new(source: &'a dyn WeightSource, rescaling: &'a Rescaling) -> Self {
        Self { source, rescaling }
    }

    fn rescale(&self, id: TensorId, mut weight: Weight, first_row: usize) -> Weight {
        let name = self.config().arch.gguf_name(id);
        if let Some(scales) = name.and_then(|name| self.rescaling.of(&name)) {
            let columns = if weight.shape.len() < 2 { 1 } else { weight.shape[1] };
            scales.apply(&mut weight.values, columns, first_row);
        }
        weight
    }
}

impl WeightSource for RescaledSource<'_> {
    fn config(&self) -> &ModelConfig {
        self.source.config()
    }

    fn load(&self, id: TensorId) -> Result<Weight, ModelError> {
        Ok(self.rescale(id, self.source.load(id)?, 0))
    }

    fn load_rows(&self, id: TensorId, rows: Range<usize>) -> Result<Weight, ModelError> {
        let first = rows.start;
        Ok(self.rescale(id, self.source.load_rows(id, rows)?, first))
    }

    fn release(&self, id: TensorId) {
        self.source.release(id);
    }

    fn kv_precision(&self) -> KvPrecision {
        self.source.kv_precision()
    }
}

fn multiply(product: &mut Option<Vec<f32>>, factors: impl Iterator<Item = f32>) {
    match product {
        Some(product) => product.iter_mut().zip(factors).for_each(|(p, f)| *p *= f),
        None => *product = Some(factors.collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_compose() {
        let mut rescaling = Rescaling::default();
        rescaling.multiply_columns("v", &[2.0, 4.0]);
        rescaling.multiply_columns("v", &[0.5, 2.0]);
        rescaling.divide_rows("v", &[2.0, 8.0, 1.0]);
        let scales = rescaling.of("v").unwrap();
        assert_eq!(scales.columns.as_deref(), Some(&[1.0, 8.0][..]));
        assert_eq!(scales.rows.as_deref(), Some(&[0.5, 0.125, 1.0][..]));
        assert_eq!(rescaling.of("k"), None);
    }
}
