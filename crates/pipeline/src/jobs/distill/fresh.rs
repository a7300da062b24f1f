//! A student that knows nothing yet: the weights a model has before any training.

use std::ops::Range;

use fastrand::Rng;
use slmc_gguf::activation::ActivationFormat;
use slmc_model::{KvPrecision, ModelConfig, ModelError, TensorId, Weight, WeightSource};

/// Weights as transformers begins them (`_init_weights` of its decoders): matrices from a normal distribution around 0, norms 1, biases 0.
pub struct Fresh {
    /// The dimensions.
    pub config: ModelConfig,
    /// The standard deviation: `initializer_range` of `config.json`.
    pub deviation: f32,
    /// Decides the weights.
    pub seed: u64,
}

impl WeightSource for Fresh {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn load(&self, id: TensorId) -> Result<Weight, ModelError> {
        let shape = self.config.shape(id.role);
        let place = self.config.tensors().iter().position(|&other| other == id);
        let place = place.ok_or(ModelError::NoSuchTensor { id })? as u64;
        let count = shape.iter().product();
        let values = match (shape.len(), id.role.is_bias()) {
            (1, true) => vec![0.0; count],
            (1, false) => vec![1.0; count],
            // Seeds lie close together, and so do tensors' places.
            _ => normal(self.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ place << 32, count, self.deviation),
        };
        Ok(Weight { values, shape, activation: ActivationFormat::F32 })
    }

    fn load_rows(&self, id: TensorId, rows: Range<usize>) -> Result<Weight, ModelError> {
        let mut weight = self.load(id)?;
        let columns: usize = weight.shape[1..].iter().product();
        if rows.start > rows.end || rows.end > weight.shape[0] {
            return Err(ModelError::Rows { id, rows, found: weight.shape[0] });
        }
        weight.shape[0] = rows.len();
        weight.values = weight.values[rows.start * columns..rows.end * columns].to_vec();
        Ok(weight)
    }

    fn release(&self, _: TensorId) {}

    fn kv_precision(&self) -> KvPrecision {
        KvPrecision::F32
    }
}

/// Normally distributed numbers (Box and Muller 1958).
fn normal(seed: u64, count: usize, deviation: f32) -> Vec<f32> {
    let mut random = Rng::with_seed(seed);
    let pairs = (0..count.div_ceil(2)).flat_map(|_| {
        // 1 − u lies in (0, 1], whose logarithm is finite.
        let (radius, angle) =
            ((-2.0 * (1.0 - random.f64()).ln()).sqrt(), std::f64::consts::TAU * random.f64());
        [radius * angle.cos(), radius * angle.sin()]
    });
    pairs.take(count).map(|value| (value * f64::from(deviation)) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::normal;

    #[test]
    fn values_are_normal_and_their_seeds() {
        let values = normal(3, 100_001, 0.02);
        let mean = |of: &dyn Fn(f64) -> f64| {
            values.iter().map(|&v| of(f64::from(v) / 0.02)).sum::<f64>() / 100_001.0
        };
        assert!(mean(&|v| v).abs() < 0.01 && (mean(&|v| v * v) - 1.0).abs() < 0.02);
        assert!((mean(&|v| v.powi(4)) - 3.0).abs() < 0.15, "{}", mean(&|v| v.powi(4)));
        assert_eq!(values, normal(3, 100_001, 0.02));
        assert_ne!(values, normal(4, 100_001, 0.02));
    }
}
