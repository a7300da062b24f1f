//! AdamW: Adam with decoupled weight decay (Loshchilov and Hutter 2017, arXiv:1711.05101, algorithm 2), as PyTorch computes it.

use std::collections::BTreeMap;

use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use slmc_model::Role;

use crate::gradients::WeightGradients;
use crate::parameter::Parameter;

/// Weights of one task.
const CHUNK: usize = 64 << 10;

/// The optimizer's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdamWSettings {
    /// β₁: how slowly the mean of gradients follows them.
    pub beta1: f32,
    /// β₂: how slowly the mean of their squares does.
    pub beta2: f32,
    /// ε, added to the root.
    pub epsilon: f32,
    /// Share of the weights, times the learning rate, that every step takes off matrices; norms, biases and embeddings
    /// stay out.
    pub weight_decay: f32,
}

impl Default for AdamWSettings {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.0 }
    }
}

/// Running means of gradients and of their squares.
#[derive(Clone, Debug, Default)]
pub struct Moments {
    /// Mean of gradients.
    pub first: Vec<f32>,
    /// Mean of squares.
    pub second: Vec<f32>,
}

/// The optimizer's state.
#[derive(Clone, Debug)]
pub struct AdamW {
    settings: AdamWSettings,
    steps: u32,
    moments: BTreeMap<Parameter, Moments>,
}

impl AdamW {
    /// An optimizer that has seen nothing.
    pub fn new(settings: AdamWSettings) -> Self {
        Self { settings, steps: 0, moments: BTreeMap::new() }
    }

    /// One that goes on after `steps` steps.
    pub fn resumed(settings: AdamWSettings, steps: u32, moments: BTreeMap<Parameter, Moments>) -> Self {
        Self { settings, steps, moments }
    }

    /// Steps done.
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// What it remembers of each parameter; those that never had a gradient are not there.
    pub fn moments(&self) -> &BTreeMap<Parameter, Moments> {
        &self.moments
    }

    /// Changes the parameters that have gradients.
    pub fn step<'a>(
        &mut self,
        parameters: impl Iterator<Item = (Parameter, &'a mut Vec<f32>)>,
        gradients: &WeightGradients,
        learning_rate: f32,
    ) {
        self.steps += 1;
        let AdamWSettings { beta1, beta2, epsilon, weight_decay } = self.settings;
        // In f64, as PyTorch has them.
        let correction = |beta: f32| 1.0 - f64::from(beta).powi(self.steps as i32);
        let update = Update {
            keep: (1.0 - f64::from(learning_rate) * f64::from(weight_decay)) as f32,
            step_size: (f64::from(learning_rate) / correction(beta1)) as f32,
            root_scale: (1.0 / correction(beta2).sqrt()) as f32,
            beta1,
            beta2,
            epsilon,
        };
        for (parameter, values) in parameters {
            let Some(gradient) = gradients.get(parameter) else { continue };
            let moments = self.moments.entry(parameter).or_insert_with(|| Moments {
                first: vec![0.0; values.len()],
                second: vec![0.0; values.len()],
            });
            let update = match decays(parameter) {
                true => update,
                false => Update { keep: 1.0, ..update },
            };
            let means = moments.first.par_chunks_mut(CHUNK).zip(moments.second.par_chunks_mut(CHUNK));
            let chunks = values.par_chunks_mut(CHUNK).zip(gradient.par_chunks(CHUNK)).zip(means);
            let arch = Arch::new();
            chunks.for_each(|((values, gradient), (first, second))| {
                arch.dispatch(Chunk { update, values, gradient, first, second });
            });
        }
    }
}

/// Whether weight decay acts on a parameter: on the linear layers' weights and their adapters alone.
fn decays(parameter: Parameter) -> bool {
    match parameter {
        Parameter::Weight(id) => Role::LINEAR.contains(&id.role) || id.role == Role::Head,
        Parameter::LoraA(_) | Parameter::LoraB(_) | Parameter::Projection => true,
        // Smaller scales would be smaller weights, all others around them alike.
        Parameter::Scales(_) => false,
    }
}

#[derive(Clone, Copy)]
struct Update {
    keep: f32,
    step_size: f32,
    root_scale: f32,
    beta1: f32,
    beta2: f32,
    epsilon: f32,
}

struct Chunk<'a> {
    update: Update,
    values: &'a mut [f32],
    gradient: &'a [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
}

/// A type of its own, as the body of a closure need not be compiled for the vector instructions found.
impl NullaryFnOnce for Chunk<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Update { keep, step_size, root_scale, beta1, beta2, epsilon } = self.update;
        let means = self.first.iter_mut().zip(self.second);
        for ((value, &gradient), (first, second)) in self.values.iter_mut().zip(self.gradient).zip(means) {
            *first += (1.0 - beta1) * (gradient - *first);
            *second = beta2 * *second + (1.0 - beta2) * gradient * gradient;
            *value = *value * keep - step_size * *first / (second.sqrt() * root_scale + epsilon);
        }
    }
}
