//! What is measured at each scored token.

use std::fmt;

use serde::Serialize;

use crate::leaders::Leaders;

/// Which of the two models something is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The reference that drift is measured from.
    Base,
    /// The model that is evaluated.
    Model,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Base => "base",
            Self::Model => "evaluated",
        })
    }
}

/// Scores of the evaluated model, and its drift from a base model if there is one; rows in the order of the text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scores {
    /// -log q(token) in nats, one per scored token.
    pub nll: Vec<f64>,
    /// One row per scored token.
    pub drift: Option<Vec<Drift>>,
}

/// How one prediction q of the evaluated model differs from the base model's prediction p.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drift {
    /// -log p(token) in nats.
    pub base_nll: f64,
    /// KL(p ‖ q) over the vocabulary in nats, at least 0 but where the base's probabilities are rounded to 16 bits.
    pub kl: f64,
    /// q(token) - p(token).
    pub delta_p: f64,
    /// Whether p and q have the same most probable token (of equals, the one with the smallest id).
    pub same_top: bool,
    /// Whether p's most probable token is one of q's five most probable (of equals, those with the smallest ids).
    pub in_top5: bool,
}

impl Drift {
    /// Of two predictions of a token: −log q and −log p of it, the divergence, p's most probable token, and those of q.
    pub(crate) fn new(nll: f64, base_nll: f64, kl: f64, likeliest: usize, model_top: &Leaders<5>) -> Self {
        Self {
            base_nll,
            kl,
            delta_p: (-nll).exp() - (-base_nll).exp(),
            same_top: likeliest == model_top.top(),
            in_top5: model_top.contains(likeliest),
        }
    }
}

impl Scores {
    /// Appends the rows of `later`.
    ///
    /// # Panics
    /// If one of the two has drift and the other, not empty either, has none.
    pub fn append(&mut self, later: Scores) {
        if self.nll.is_empty() {
            *self = later;
            return;
        }
        self.nll.extend(later.nll);
        match (&mut self.drift, later.drift) {
            (Some(rows), Some(later)) => rows.extend(later),
            (None, None) => {}
            _ => panic!("scores with and without a base model"),
        }
    }
}
