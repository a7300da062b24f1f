//! The exact rescaling of a float model: vectors that rows and columns of its tensors are multiplied with.
//!
//! AWQ finds them; export applies them while it reads. A tensor without an entry is read as it is.

use std::collections::HashMap;

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

    /// What this tensor is multiplied with, if with anything.
    pub fn of(&self, tensor: &str) -> Option<&TensorScales> {
        self.tensors.get(tensor)
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
