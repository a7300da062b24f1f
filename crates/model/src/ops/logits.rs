//! What becomes of the head's products before they are logits.

use burn::tensor::Tensor;
use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use super::exponential::tanh;
use crate::host;

/// c · tanh(scale · z / c), or scale · z without a cap c.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogitTransform {
    /// The factor.
    pub scale: f32,
    /// What logits stay within.
    pub softcap: Option<f32>,
}

impl Default for LogitTransform {
    /// Nothing.
    fn default() -> Self {
        Self { scale: 1.0, softcap: None }
    }
}

/// Values of one task.
const CHUNK: usize = 16 << 10;

impl LogitTransform {
    /// Whether logits are the products themselves.
    pub fn is_identity(&self) -> bool {
        *self == Self::default()
    }

    /// Turns products into logits.
    pub fn apply(&self, values: &mut [f32]) {
        if self.is_identity() {
            return;
        }
        let arch = Arch::new();
        values.par_chunks_mut(CHUNK).for_each(|values| arch.dispatch(Apply { by: *self, values }));
    }

    /// Turns gradients by logits into gradients by the products that the logits were made of.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn back(&self, logits: &[f32], gradients: &mut [f32]) {
        assert_eq!(logits.len(), gradients.len(), "logits and their gradients");
        let scale = self.scale;
        let inverse = self.softcap.map_or(0.0, |cap| 1.0 / cap);
        gradients.par_chunks_mut(CHUNK).zip(logits.par_chunks(CHUNK)).for_each(|(gradients, logits)| {
            for (gradient, &logit) in gradients.iter_mut().zip(logits) {
                let tanh = logit * inverse;
                *gradient *= scale * (1.0 - tanh * tanh);
            }
        });
    }

    /// As [`LogitTransform::apply`], on a tensor of any device.
    pub fn of(&self, products: Tensor<2>) -> Tensor<2> {
        let device = products.device();
        if self.is_identity() {
            return products;
        }
        if host::is_cpu_without_gradients(&device) {
            let shape = products.dims();
            let mut values = host::into_vec(products);
            self.apply(&mut values);
            return host::tensor(values, shape, &device);
        }
        let products = products * self.scale;
        match self.softcap {
            Some(cap) => (products / cap).tanh() * cap,
            None => products,
        }
    }
}

/// A type of its own, as the body of a closure need not be compiled for the vector instructions found.
struct Apply<'a> {
    by: LogitTransform,
    values: &'a mut [f32],
}

impl NullaryFnOnce for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let LogitTransform { scale, softcap } = self.by;
        match softcap {
            None => self.values.iter_mut().for_each(|value| *value *= scale),
            Some(cap) => {
                let inverse = scale / cap;
                self.values.iter_mut().for_each(|value| *value = cap * tanh(*value * inverse));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_are_those_of_differences() {
        for by in [
            LogitTransform { scale: 0.125, softcap: None },
            LogitTransform { scale: 1.0, softcap: Some(30.0) },
            LogitTransform { scale: 2.0, softcap: Some(5.0) },
        ] {
            let products = [-40.0f32, -3.0, 0.0, 0.5, 7.0];
            let of = |step: f32| {
                let mut values = products.map(|z| z + step);
                by.apply(&mut values);
                values
            };
            let mut gradients = [1.0; 5];
            by.back(&of(0.0), &mut gradients);
            for ((after, before), gradient) in of(1e-2).iter().zip(of(-1e-2)).zip(gradients) {
                assert!(((after - before) / 2e-2 - gradient).abs() < 1e-3, "{by:?}: {gradient}");
            }
        }
    }
}
