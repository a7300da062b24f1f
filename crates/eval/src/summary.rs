//! The figures of an evaluation, from its rows.
//!
//! They are those that llama-perplexity prints. A perplexity is e^(mean nll), so its standard error is perplexity times
//! that of the mean. Where llama.cpp propagates variances and a covariance of the two models' nll, the standard error
//! of the tokens' differences is taken directly: Var(x) + Var(y) - 2·Cov(x, y) = Var(x - y).

use serde::Serialize;

use crate::scores::{Drift, Scores};
use crate::statistics::{Distribution, Estimate, correlation};

/// What an evaluation found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Scored tokens.
    pub tokens: usize,
    /// e^(mean nll) of the evaluated model.
    pub perplexity: f64,
    /// Standard error of `perplexity`.
    pub perplexity_stderr: f64,
    /// -log q(token), nats.
    pub nll: Estimate,
    /// Bits that the evaluated model needs for a byte of the text: the sum of nll over the scored tokens, divided by ln 2 and by
    /// the bytes that these very tokens stand for in the text as UTF-8 (of a character that several tokens make up, all bytes
    /// count with the first of them). Unlike perplexity it can be compared across tokenizers. `None` where the tokens' text
    /// is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bits_per_byte: Option<f64>,
    /// Comparison with the base model, if there was one.
    #[serde(flatten)]
    pub drift: Option<DriftSummary>,
}

/// How the evaluated model q differs from the base model p.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DriftSummary {
    /// e^(mean nll) of the base model.
    pub base_perplexity: f64,
    /// Standard error of `base_perplexity`.
    pub base_perplexity_stderr: f64,
    /// Bits per byte of the base model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_bits_per_byte: Option<f64>,
    /// ln(perplexity / base perplexity).
    pub ln_perplexity_ratio: Estimate,
    /// perplexity / base perplexity.
    pub perplexity_ratio: Estimate,
    /// perplexity - base perplexity.
    pub perplexity_difference: Estimate,
    /// Pearson's correlation of the two models' nll; `None` (null) if one of them is the same at every token.
    pub nll_correlation: Option<f64>,
    /// KL(p ‖ q), nats.
    pub kl_divergence: Distribution,
    /// q(token) - p(token), a fraction of 1 (llama.cpp prints percent).
    pub delta_p: DeltaP,
    /// Share of tokens at which p and q have the same most probable token.
    pub top1_agreement: f64,
    /// Its binomial standard error, sqrt(s·(1 - s) / (n - 1)).
    pub top1_agreement_stderr: f64,
    /// Share of tokens at which p's most probable token is one of q's five most probable.
    pub top5_agreement: f64,
    /// Its binomial standard error.
    pub top5_agreement_stderr: f64,
}

/// Change of the probability that the model gives to the token that came.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeltaP {
    /// Signed changes.
    #[serde(flatten)]
    pub distribution: Distribution,
    /// sqrt(mean Δp²).
    pub rms: f64,
    /// Standard error of `rms`, that of mean Δp² divided by 2·rms.
    pub rms_stderr: f64,
}

impl Summary {
    /// Of at least one token; with none every figure is NaN.
    pub fn of(scores: &Scores) -> Self {
        let nll = Estimate::of(scores.nll.iter().copied());
        let perplexity = nll.mean.exp();
        Self {
            tokens: scores.nll.len(),
            perplexity,
            perplexity_stderr: perplexity * nll.stderr,
            nll,
            bits_per_byte: None,
            drift: scores.drift.as_deref().map(|drift| DriftSummary::of(&scores.nll, drift)),
        }
    }

    /// Says how many bytes the scored tokens stand for, so that bits per byte can be told.
    pub(crate) fn set_bytes(&mut self, bytes: usize) {
        let tokens = self.tokens as f64;
        self.bits_per_byte = bits_per_byte(self.nll.mean * tokens, bytes);
        if let Some(drift) = &mut self.drift {
            drift.base_bits_per_byte = bits_per_byte(drift.base_perplexity.ln() * tokens, bytes);
        }
    }
}

impl DriftSummary {
    fn of(nll: &[f64], drift: &[Drift]) -> Self {
        assert_eq!(nll.len(), drift.len(), "one row per token");
        let base_nll: Vec<f64> = drift.iter().map(|row| row.base_nll).collect();
        let base = Estimate::of(base_nll.iter().copied());
        let base_perplexity = base.mean.exp();
        let perplexity = Estimate::of(nll.iter().copied()).mean.exp();

        let pairs = || nll.iter().copied().zip(base_nll.iter().copied());
        let ln_perplexity_ratio = Estimate::of(pairs().map(|(nll, base)| nll - base));
        let ratio = ln_perplexity_ratio.mean.exp();
        let difference = Estimate::of(pairs().map(|(nll, base)| perplexity * nll - base_perplexity * base));

        let share =
            |of: fn(&Drift) -> bool| drift.iter().filter(|row| of(row)).count() as f64 / drift.len() as f64;
        let (same_top, in_top5) = (share(|row| row.same_top), share(|row| row.in_top5));
        Self {
            base_perplexity,
            base_perplexity_stderr: base_perplexity * base.stderr,
            base_bits_per_byte: None,
            ln_perplexity_ratio,
            perplexity_ratio: Estimate { mean: ratio, stderr: ratio * ln_perplexity_ratio.stderr },
            perplexity_difference: Estimate { mean: perplexity - base_perplexity, stderr: difference.stderr },
            nll_correlation: correlation(nll, &base_nll),
            kl_divergence: Distribution::of(drift.iter().map(|row| row.kl).collect()),
            delta_p: DeltaP::of(drift.iter().map(|row| row.delta_p).collect()),
            top1_agreement: same_top,
            top1_agreement_stderr: binomial_stderr(same_top, drift.len()),
            top5_agreement: in_top5,
            top5_agreement_stderr: binomial_stderr(in_top5, drift.len()),
        }
    }
}

/// `nats` of information in bits, for each of `bytes`; `None` for none.
pub(crate) fn bits_per_byte(nats: f64, bytes: usize) -> Option<f64> {
    (bytes > 0).then(|| nats / std::f64::consts::LN_2 / bytes as f64)
}

/// sqrt(s·(1 - s) / (n - 1)), 0 for a single token.
fn binomial_stderr(share: f64, n: usize) -> f64 {
    if n > 1 { (share * (1.0 - share) / (n - 1) as f64).sqrt() } else { 0.0 }
}

impl DeltaP {
    fn of(changes: Vec<f64>) -> Self {
        let square = Estimate::of(changes.iter().map(|x| x * x));
        let rms = square.mean.sqrt();
        let rms_stderr = if rms > 0.0 { 0.5 / rms * square.stderr } else { 0.0 };
        Self { distribution: Distribution::of(changes), rms, rms_stderr }
    }
}

#[cfg(test)]
#[path = "summary_tests.rs"]
mod tests;
