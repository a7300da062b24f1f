//! Gradients of everything that is trained.

use std::collections::BTreeMap;

use crate::parameter::Parameter;

/// A gradient for every parameter, in its own layout: sums over the batches of a step.
#[derive(Debug, Default)]
pub struct WeightGradients(BTreeMap<Parameter, Vec<f32>>);

impl WeightGradients {
    /// Adds a batch's gradient.
    pub(crate) fn add(&mut self, parameter: impl Into<Parameter>, gradient: Vec<f32>) {
        let parameter = parameter.into();
        match self.0.get_mut(&parameter) {
            Some(sum) => sum.iter_mut().zip(gradient).for_each(|(sum, value)| *sum += value),
            None => {
                self.0.insert(parameter, gradient);
            }
        }
    }

    /// A parameter's sum of `len` values, to be added to; zeros at first.
    pub(crate) fn sum_mut(&mut self, parameter: impl Into<Parameter>, len: usize) -> &mut Vec<f32> {
        self.0.entry(parameter.into()).or_insert_with(|| vec![0.0; len])
    }

    /// Takes a parameter's sum out.
    pub(crate) fn take(&mut self, parameter: impl Into<Parameter>) -> Option<Vec<f32>> {
        self.0.remove(&parameter.into())
    }

    /// Keeps the sums of some parameters.
    pub(crate) fn retain(&mut self, mut kept: impl FnMut(Parameter) -> bool) {
        self.0.retain(|&parameter, _| kept(parameter));
    }

    /// A parameter's sum; `None` if no batch reached it.
    pub fn get(&self, parameter: impl Into<Parameter>) -> Option<&[f32]> {
        self.0.get(&parameter.into()).map(Vec::as_slice)
    }

    /// The length of all of them as one vector.
    pub fn norm(&self) -> f64 {
        use rayon::prelude::*;
        const CHUNK: usize = 64 << 10;
        // Sums of fixed pieces, added up in their order: the same bits with any number of threads.
        let square = |gradient: &Vec<f32>| -> f64 {
            let pieces: Vec<f64> = gradient
                .par_chunks(CHUNK)
                .map(|piece| piece.iter().map(|&value| f64::from(value) * f64::from(value)).sum())
                .collect();
            pieces.iter().sum()
        };
        self.0.values().map(square).sum::<f64>().sqrt()
    }

    /// Multiplies all of them.
    pub fn scale(&mut self, factor: f32) {
        use rayon::prelude::*;
        self.0.values_mut().for_each(|gradient| gradient.par_iter_mut().for_each(|value| *value *= factor));
    }

    /// Every parameter's sum, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Parameter, &mut [f32])> {
        self.0.iter_mut().map(|(&parameter, gradient)| (parameter, gradient.as_mut_slice()))
    }
}
