//! What rounding changes in a layer's weights and outputs, the latter beside what plain rounding to the same type would have changed.

use serde::{Deserialize, Serialize};
use slmc_quant::loss::{InputStatistics, output_energy, output_error, relative_error};
use slmc_quant::rtn::round_trip;
use slmc_quant::{Grid, QuantError};

/// Rows that are looked at: as many as make the figure good to a few percent, and no more than take a moment.
const ROWS: usize = 256;

/// Relative output errors, ‖Ŵ x − y‖ / ‖y‖ over calibration tokens (root of the ratio of sums of squares), where y = W* x is
/// what the layer was to give. Measured on 256 evenly spaced rows of larger tensors.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputError {
    /// Of rounding the float model's own weights to nearest, without any calibration.
    pub before: f64,
    /// Of the weights that were stored.
    pub after: f64,
}

/// Gathers the output error of one tensor from some of its rows at a time.
pub struct OutputErrorMeter {
    stride: usize,
    before: [f64; 2],
    after: [f64; 2],
}

/// Rows of a tensor, `[n, columns]` each.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// The first one's number.
    pub first: usize,
    /// Length of a row.
    pub columns: usize,
    /// W.
    pub weights: &'a [f32],
    /// W*: what was aimed at.
    pub targets: &'a [f32],
    /// Ŵ.
    pub rounded: &'a [f32],
    /// What W's columns have been multiplied by for rounding's sake, `[columns]`.
    pub scales: Option<&'a [f32]>,
}

impl OutputErrorMeter {
    /// For a tensor of `rows` rows.
    pub fn new(rows: usize) -> Self {
        Self { stride: (rows / ROWS).max(1), before: [0.0; 2], after: [0.0; 2] }
    }

    /// Looks at those of `rows` that are to be looked at.
    ///
    /// # Errors
    /// Lengths that do not fit.
    pub fn add(
        &mut self,
        grid: impl Grid,
        rows: Rows<'_>,
        inputs: InputStatistics<'_>,
    ) -> Result<(), QuantError> {
        self.add_beside(rows, inputs, |weights| plainly_rounded(grid, weights, rows.columns, rows.scales))
    }

    /// The same beside what `plain` would have made of the weights.
    ///
    /// # Errors
    /// Lengths that do not fit; those of `plain`.
    pub fn add_beside<E: From<QuantError>>(
        &mut self,
        rows: Rows<'_>,
        inputs: InputStatistics<'_>,
        plain: impl FnOnce(Vec<f32>) -> Result<Vec<f32>, E>,
    ) -> Result<(), E> {
        let sample = |values: &[f32]| -> Vec<f32> {
            let numbered = values.chunks_exact(rows.columns).zip(rows.first..);
            numbered.filter(|(_, n)| n % self.stride == 0).flat_map(|(row, _)| row).copied().collect()
        };
        let [weights, targets, rounded] = [rows.weights, rows.targets, rows.rounded].map(sample);
        if weights.is_empty() {
            return Ok(());
        }
        let plain = plain(weights)?;
        let energy = output_energy(&targets, rows.columns, inputs)?;
        for (sums, values) in [(&mut self.before, &plain), (&mut self.after, &rounded)] {
            sums[0] += output_error(&targets, values, rows.columns, inputs)?;
            sums[1] += energy;
        }
        Ok(())
    }

    /// Adds what another meter of the same tensor saw.
    pub fn merge(&mut self, other: &Self) {
        for (sums, others) in [(&mut self.before, other.before), (&mut self.after, other.after)] {
            sums.iter_mut().zip(others).for_each(|(sum, other)| *sum += other);
        }
    }

    /// The errors; 0 where there is no output.
    pub fn finish(&self) -> OutputError {
        OutputError { before: ratio(self.before), after: ratio(self.after) }
    }
}

/// What rounding changed in one tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Errors {
    /// ‖Ŵ − W‖ / ‖W‖; 0 for a tensor of zeros.
    pub weights: f64,
    /// In its outputs, where calibration told what comes in.
    pub outputs: Option<OutputError>,
}

/// Gathers both errors of one tensor, of its weights and of its outputs.
pub struct ErrorMeter {
    weights: [f64; 2],
    outputs: OutputErrorMeter,
}

impl ErrorMeter {
    /// For a tensor of `rows` rows.
    pub fn new(rows: usize) -> Self {
        Self { weights: [0.0; 2], outputs: OutputErrorMeter::new(rows) }
    }

    /// Looks at `rows`.
    ///
    /// # Errors
    /// Lengths that do not fit.
    pub fn add(
        &mut self,
        grid: impl Grid,
        rows: Rows<'_>,
        inputs: InputStatistics<'_>,
    ) -> Result<(), QuantError> {
        self.add_weights(rows)?;
        self.outputs.add(grid, rows, inputs)
    }

    /// The same, the outputs beside those of what `plain` would have made of the weights.
    ///
    /// # Errors
    /// Lengths that do not fit; those of `plain`.
    pub fn add_beside<E: From<QuantError>>(
        &mut self,
        rows: Rows<'_>,
        inputs: InputStatistics<'_>,
        plain: impl FnOnce(Vec<f32>) -> Result<Vec<f32>, E>,
    ) -> Result<(), E> {
        self.add_weights(rows)?;
        self.outputs.add_beside(rows, inputs, plain)
    }

    fn add_weights(&mut self, rows: Rows<'_>) -> Result<(), QuantError> {
        let energy: f64 = rows.weights.iter().map(|w| f64::from(*w).powi(2)).sum();
        self.weights[0] += relative_error(rows.weights, rows.rounded)?.powi(2) * energy;
        self.weights[1] += energy;
        Ok(())
    }

    /// The errors.
    pub fn finish(&self) -> Errors {
        Errors { weights: ratio(self.weights), outputs: Some(self.outputs.finish()) }
    }
}

/// Root of a ratio of sums of squares; 0 where there is nothing.
fn ratio([error, energy]: [f64; 2]) -> f64 {
    if energy > 0.0 { (error / energy).sqrt() } else { 0.0 }
}

/// Rounded to nearest as they were before their columns were multiplied by `scales`.
fn plainly_rounded(
    grid: impl Grid,
    mut weights: Vec<f32>,
    columns: usize,
    scales: Option<&[f32]>,
) -> Result<Vec<f32>, QuantError> {
    let rescale = |values: &mut [f32], by: fn(f32, f32) -> f32| {
        let Some(scales) = scales else { return };
        for row in values.chunks_exact_mut(columns) {
            row.iter_mut().zip(scales).for_each(|(value, scale)| *value = by(*value, *scale));
        }
    };
    rescale(&mut weights, |value, scale| value / scale);
    let mut plain = vec![0.0; weights.len()];
    round_trip(grid, &weights, columns, None, &mut plain)?;
    rescale(&mut plain, |value, scale| value * scale);
    Ok(plain)
}
