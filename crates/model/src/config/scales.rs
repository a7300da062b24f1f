//! The numbers a family multiplies with.

use crate::ops::LogitTransform;

/// As the fields of [`ModelConfig`](super::ModelConfig) of these names.
pub(super) struct Scales {
    pub attention: f64,
    pub attention_softcap: Option<f64>,
    pub embedding: f64,
    pub residual: f64,
    pub logits: LogitTransform,
}

impl Scales {
    /// Of families that scale attention's scores alone.
    pub fn plain(head_dim: usize) -> Self {
        Self {
            attention: (head_dim as f64).sqrt().recip(),
            attention_softcap: None,
            embedding: 1.0,
            residual: 1.0,
            logits: LogitTransform::default(),
        }
    }
}
