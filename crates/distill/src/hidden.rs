//! Hidden states of the teacher as what the student's are trained towards (Jiao et al. 2020, arXiv:1909.10351, equation 8).
//!
//! The student's layer i stands beside the teacher's layer ⌊(i + 1) T / S⌉ − 1 of T, S being the student's: the last beside the last. The loss is
//! the mean over tokens with something to predict, layers and the teacher's width of (h P ᵀ − t)², h and t being what leaves the two layers. P,
//! `[teacher's width, student's width]`, is learned with the student, one for all layers; of equal widths there is none.

use fastrand::Rng;
use slmc_model::{BurnDevice, HostView, ModelConfig, Tensor, host};

/// What the student's hidden states are compared with, for the tokens of one batch.
#[derive(Clone, Copy)]
pub struct HiddenTargets<'a> {
    /// What leaves the teacher's layer beside each of the student's, `[tokens, width]`.
    pub states: &'a [HostView],
    /// The teacher's width.
    pub width: usize,
    /// P; `None` for equal widths.
    pub projection: Option<&'a [f32]>,
    /// Factor of the sum of squares.
    pub weight: f32,
}

/// How a run compares hidden states.
pub(crate) struct Comparison {
    /// The teacher's layer beside each of the student's.
    pub layers: Vec<usize>,
    /// The teacher's width.
    pub width: usize,
    /// P, as far as it is trained; `None` for equal widths.
    pub projection: Option<Vec<f32>>,
}

impl Comparison {
    /// Of a teacher and a student, with what an earlier part of the run has kept of P.
    pub fn begin([teacher, student]: [&ModelConfig; 2], kept: Option<Vec<f32>>, seed: u64) -> Self {
        let (width, own) = (teacher.hidden_size, student.hidden_size);
        let layers = matched_layers(student.num_hidden_layers, teacher.num_hidden_layers);
        let projection = kept.or_else(|| (width != own).then(|| projection(width, own, seed)));
        Self { layers, width, projection }
    }

    /// The targets of a batch, `weight` being the loss's over the number of predictions in the step.
    pub fn targets<'a>(&'a self, states: &'a [HostView], weight: f32) -> HiddenTargets<'a> {
        HiddenTargets {
            states,
            width: self.width,
            projection: self.projection.as_deref(),
            weight: weight / (self.layers.len() * self.width) as f32,
        }
    }
}

/// The teacher's layer beside each of the student's.
pub fn matched_layers(student: usize, teacher: usize) -> Vec<usize> {
    (1..=student).map(|i| ((2 * i * teacher + student) / (2 * student)).max(1) - 1).collect()
}

/// P at the beginning: uniform within ±1/√(student's width), as PyTorch begins a linear layer.
fn projection(teacher: usize, student: usize, seed: u64) -> Vec<f32> {
    let (mut random, bound) = (Rng::with_seed(seed ^ 0x5072_6F6A), 1.0 / (student as f32).sqrt());
    (0..teacher * student).map(|_| bound * (2.0 * random.f32() - 1.0)).collect()
}

impl HiddenTargets<'_> {
    /// P on a device, where it wants its gradient.
    pub(crate) fn projection_on(&self, student: usize, device: &BurnDevice) -> Option<Tensor<2>> {
        self.projection.map(|values| host::parameter(values.to_vec(), [self.width, student], device))
    }

    /// The loss of what leaves the student's layer `layer`, `[tokens, width]`; only tokens that have a label count.
    pub(crate) fn loss(
        &self,
        layer: usize,
        hidden: Tensor<2>,
        projection: Option<&Tensor<2>>,
        labels: &[Option<u32>],
    ) -> Tensor<1> {
        let (tokens, device) = (labels.len(), hidden.device());
        let projected = match projection {
            Some(projection) => hidden.matmul(projection.clone().transpose()),
            None => hidden,
        };
        let target = host::tensor(self.states[layer].to_vec(), [tokens, self.width], &device);
        let counts = labels.iter().map(|label| f32::from(u8::from(label.is_some()))).collect();
        let difference = (projected - target) * host::tensor(counts, [tokens, 1], &device);
        (difference.clone() * difference).sum() * self.weight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_stand_side_by_side_to_the_last() {
        assert_eq!(matched_layers(2, 4), [1, 3]);
        assert_eq!(matched_layers(4, 4), [0, 1, 2, 3]);
        assert_eq!(matched_layers(3, 2), [0, 0, 1]);
        for (student, teacher) in (1..12).flat_map(|s| (1..12).map(move |t| (s, t))) {
            let layers = matched_layers(student, teacher);
            assert!(
                layers.is_sorted() && layers[student - 1] == teacher - 1,
                "{student} {teacher}: {layers:?}"
            );
        }
    }
}
