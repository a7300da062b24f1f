//! What storing a tensor as each of several types costs, from one measured divergence and the output errors.

use slmc_gguf::TensorType;
use slmc_gguf::activation::{ActivationFormat, round_rows};
use slmc_quant::QuantError;
use slmc_quant::loss::{InputStatistics, output_energy, output_error};

use super::rounding::{Care, Knowledge, decode};

/// Types to try.
#[derive(Clone, Debug)]
pub struct Types {
    /// Those to choose from, at least one.
    pub candidates: Vec<TensorType>,
    /// The one whose divergence is measured.
    pub reference: TensorType,
    /// Whether zeros stay zeros in those that hold them.
    pub hold_zeros: bool,
}

impl Types {
    /// The position of the candidate that takes about as many bits as `ty`.
    pub fn nearest(&self, ty: TensorType) -> usize {
        let distance = |n: usize| (self.candidates[n].bits_per_weight() - ty.bits_per_weight()).abs();
        (0..self.candidates.len()).min_by(|&a, &b| distance(a).total_cmp(&distance(b))).unwrap_or(0)
    }
}

/// Mean squared output errors of one use of a tensor (a product, or a lookup), summed over outputs.
#[derive(Clone, Debug, Default)]
pub struct OutputErrors {
    /// Of each candidate, rounded with the least care.
    pub candidates: Vec<f64>,
    /// Of the reference type, rounded with the least care.
    pub reference: f64,
    /// Of the reference type, rounded as the method will.
    pub careful: f64,
    /// Of the inputs' rounding, by format.
    pub inputs: Vec<f64>,
}

/// A matrix, rounded.
pub struct Rounded {
    /// As the reference type, as the method will.
    pub reference: Vec<f32>,
    /// As each candidate, with the least care.
    pub candidates: Vec<Vec<u8>>,
}

impl OutputErrors {
    /// Adds the errors of some rows of a matrix (`[n, columns]`) on `inputs` (`[tokens, columns]`), and gives them rounded.
    ///
    /// # Errors
    /// Lengths that do not fit; weights that are not finite.
    pub fn add_product(
        &mut self,
        weights: &[f32],
        inputs: &[f32],
        columns: usize,
        types: &Types,
        knowledge: &Knowledge,
    ) -> Result<Rounded, QuantError> {
        let error =
            |rounded: &[f32]| output_error(weights, rounded, columns, InputStatistics::Samples(inputs));
        self.add(weights, columns, types, knowledge, error)
    }

    /// Adds the errors of looked-up rows (`[n, columns]`), and gives them rounded.
    ///
    /// # Errors
    /// Weights that are not finite.
    pub fn add_lookup(
        &mut self,
        rows: &[f32],
        columns: usize,
        types: &Types,
        knowledge: &Knowledge,
    ) -> Result<Rounded, QuantError> {
        let error = |rounded: &[f32]| {
            Ok(rows.iter().zip(rounded).map(|(w, r)| (f64::from(*r) - f64::from(*w)).powi(2)).sum())
        };
        self.add(rows, columns, types, knowledge, error)
    }

    /// Adds what rounding `inputs` (`[tokens, columns]`) to each format does to the outputs of some rows.
    ///
    /// # Errors
    /// Lengths that do not fit.
    pub fn add_inputs(
        &mut self,
        weights: &[f32],
        inputs: &[f32],
        columns: usize,
        formats: &[ActivationFormat],
    ) -> Result<(), QuantError> {
        self.inputs.resize(formats.len(), 0.0);
        for (sum, &format) in self.inputs.iter_mut().zip(formats) {
            if columns.is_multiple_of(format.block_len()) {
                let mut noise = inputs.to_vec();
                round_rows(format, &mut noise, columns);
                noise.iter_mut().zip(inputs).for_each(|(rounded, exact)| *rounded -= exact);
                *sum += output_energy(weights, columns, InputStatistics::Samples(&noise))?;
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        weights: &[f32],
        columns: usize,
        types: &Types,
        knowledge: &Knowledge,
        error: impl Fn(&[f32]) -> Result<f64, QuantError>,
    ) -> Result<Rounded, QuantError> {
        let round = |ty, care| -> Result<_, QuantError> {
            let bytes = knowledge.encode(ty, weights, columns, care, types.hold_zeros)?;
            let values = decode(ty, &bytes, columns)?;
            let error = error(&values)?;
            Ok((bytes, values, error))
        };
        let (_, reference, careful) = round(types.reference, Care::Full)?;
        self.careful += careful;
        self.candidates.resize(types.candidates.len(), 0.0);
        let mut candidates = Vec::new();
        let mut least = if knowledge.takes_care() { None } else { Some(careful) };
        for (sum, &ty) in self.candidates.iter_mut().zip(&types.candidates) {
            let (bytes, _, error) = round(ty, Care::Least)?;
            *sum += error;
            candidates.push(bytes);
            if ty == types.reference {
                least = Some(error);
            }
        }
        self.reference += match least {
            Some(error) => error,
            None => round(types.reference, Care::Least)?.2,
        };
        Ok(Rounded { reference, candidates })
    }
}
