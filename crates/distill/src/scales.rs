//! Training the scales of a grid in the place of the weights that stand on it.

use slmc_model::{MemorySource, ModelError, TensorId, WeightSource};

use crate::gradients::WeightGradients;
use crate::parameter::Parameter;

/// Weights with codes that stay, as a function of the scales of their grid.
pub trait ScaledGrid {
    /// A tensor's values under some scales, as the checkpoint has them.
    ///
    /// # Errors
    /// Scales that are not finite.
    fn values(&self, id: TensorId, scales: &[f32]) -> Result<Vec<f32>, ModelError>;

    /// The gradient by the scales, from that by the values under them.
    ///
    /// # Errors
    /// As [`ScaledGrid::values`].
    fn gradient(&self, id: TensorId, scales: &[f32], values: &[f32]) -> Result<Vec<f32>, ModelError>;
}

/// The weights under a student's scales, whole.
///
/// # Errors
/// Whatever the student's base reports; scales that are not finite.
pub(crate) fn scaled(weights: &MemorySource, grid: &dyn ScaledGrid) -> Result<MemorySource, ModelError> {
    let scales: std::collections::BTreeMap<TensorId, &[f32]> = weights.scales().collect();
    MemorySource::new(weights.config().clone(), |id| match scales.get(&id) {
        Some(scales) => grid.values(id, scales),
        None => Ok(weights.load(id)?.values),
    })
}

/// Makes gradients by scales of those by values; those by values that are no function of scales are dropped.
///
/// # Errors
/// Scales that are not finite.
pub(crate) fn pull_back(
    weights: &MemorySource,
    grid: &dyn ScaledGrid,
    gradients: &mut WeightGradients,
) -> Result<(), ModelError> {
    for (id, scales) in weights.scales() {
        if let Some(values) = gradients.take(id) {
            gradients.add(Parameter::Scales(id), grid.gradient(id, scales, &values)?);
        }
    }
    gradients.retain(|parameter| !matches!(parameter, Parameter::Weight(_)));
    Ok(())
}
