//! Telling a caller how far an evaluation is. What is shown, and where, is the caller's.

use crate::scores::{Drift, Scores};

/// How far an evaluation is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Share of the multiplications that are done, 0 to 1.
    pub fraction: f64,
    /// Tokens read by the models whose scores are final.
    pub tokens_done: usize,
    /// Tokens to read.
    pub tokens_total: usize,
    /// Figures over the tokens scored so far, once there are any.
    pub running: Option<Running>,
}

/// Figures over the tokens scored so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Running {
    /// Of the evaluated model.
    pub perplexity: f64,
    /// Of the base model.
    pub base_perplexity: Option<f64>,
    /// Mean KL divergence from the base model, nats.
    pub kl_divergence: Option<f64>,
}

impl Running {
    /// Means over `scores`, `None` if there are none yet.
    pub(crate) fn of(scores: &Scores) -> Option<Self> {
        let n = scores.nll.len() as f64;
        let mean_of = |field: fn(&Drift) -> f64| {
            let drift = scores.drift.as_ref()?;
            Some(drift.iter().map(field).sum::<f64>() / n)
        };
        (n > 0.0).then(|| Self {
            perplexity: (scores.nll.iter().sum::<f64>() / n).exp(),
            base_perplexity: mean_of(|row| row.base_nll).map(f64::exp),
            kl_divergence: mean_of(|row| row.kl),
        })
    }
}

/// Hears of progress, many times in an evaluation: after every block of every model.
pub trait Reporter {
    /// Called on the thread that evaluates, which waits for it.
    fn progress(&mut self, progress: &Progress);

    /// True once the evaluation shall stop; asked after every call of [`progress`](Self::progress).
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Keeps quiet.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Reporter for Silent {
    fn progress(&mut self, _: &Progress) {}
}
