//! Whether a compressed model is good enough: measured values against limits, with the uncertainty of both taken seriously.
//!
//! Each value comes with bounds that the true one is beyond with the stated probability at most. A value passes when even its
//! worse bound keeps the limit (non-inferiority against a margin), is a regression when even its better bound breaks it, and
//! is undecided between: then more text would tell. So a model that is exactly at a limit is called a regression in
//! 1 − confidence of all cases, and passed in as many.

mod accuracy;
mod baseline;
mod baseline_tasks;
mod interval;
mod latency;

use std::ops::Range;

use serde::Serialize;

use crate::Evaluation;
use crate::scores::Drift;

pub use accuracy::{FEWEST_ITEMS, check_accuracy};
pub use baseline::{Baseline, Incomparable};
pub use baseline_tasks::{TaskAnswers, TaskBaseline};
pub use interval::{Interval, interval};
pub use latency::{FEWEST_REPETITIONS, judge_latency};

/// Windows below which nothing is decided: a resample of so few says little of what others would be like.
pub const FEWEST_WINDOWS: usize = 10;

/// What a compressed model may lose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Limits {
    /// Most mean KL divergence from the base, nats per token.
    pub max_kl: Option<f64>,
    /// Largest increase of perplexity over the base's, a fraction of it.
    pub max_ppl_increase: Option<f64>,
    /// Least share of tokens at which both find the same one most likely.
    pub min_top1: Option<f64>,
    /// Most bytes of the weight files.
    pub max_bytes: Option<u64>,
    /// Least accuracy on tasks, as a fraction of the base's.
    pub min_accuracy_ratio: Option<f64>,
    /// Largest increase of the median latency per generated token over the base's, a fraction of it.
    pub max_latency_increase: Option<f64>,
}

impl Limits {
    /// Whether any of them needs the models to be run on a text.
    pub fn need_evaluation(&self) -> bool {
        self.max_kl.is_some() || self.max_ppl_increase.is_some() || self.min_top1.is_some()
    }

    /// Whether there is any.
    pub fn is_empty(&self) -> bool {
        !self.need_evaluation()
            && self.max_bytes.is_none()
            && self.max_latency_increase.is_none()
            && self.min_accuracy_ratio.is_none()
    }
}

/// What a limit is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Mean KL divergence from the base, nats per token.
    KlDivergence,
    /// Perplexity over the base's, less 1.
    PerplexityIncrease,
    /// Share of tokens with the same most likely token.
    Top1Agreement,
    /// Bytes of the weight files.
    Bytes,
    /// Mean KL divergence over that of a baseline, less 1.
    KlOverBaseline,
    /// Share of items answered rightly, over that of the base.
    AccuracyRatio,
    /// Share of items answered rightly, over that of a baseline.
    AccuracyOverBaseline,
    /// Median latency per generated token over the base's, less 1.
    LatencyIncrease,
}

/// How something compares with its limit. The worse is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It keeps the limit.
    Passed,
    /// Not enough was measured to tell.
    Undecided,
    /// It breaks the limit.
    Regression,
}

/// One limit and what was measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Check {
    /// What it is about.
    pub metric: Metric,
    /// The limit.
    pub limit: f64,
    /// What was measured.
    pub value: f64,
    /// Where the true value lies; `None` (null) for what is exact, and where there are too few windows.
    pub interval: Option<Interval>,
    /// The conclusion.
    pub verdict: Verdict,
    /// For what is undecided, about how many windows (of a latency repetitions, of accuracy items) would decide it, if the value
    /// stayed; `None` (null) where none would, as it is at the limit.
    pub windows_needed: Option<u64>,
}

/// Holds an evaluation beside a base against the limits, but for that on accuracy ([`check_accuracy`]); each bound is one-sided with `confidence`. Windows are what is
/// resampled: tokens of one window are not independent of each other. `bytes` is the size of the model.
///
/// # Panics
/// If a limit needs an evaluation beside a base and `evaluation` is none.
pub fn judge(evaluation: Option<&Evaluation>, bytes: u64, limits: &Limits, confidence: f64) -> Vec<Check> {
    let mut checks = Vec::new();
    if limits.need_evaluation() {
        let evaluation = evaluation.expect("limits on losses need an evaluation");
        let means = |of: &dyn Fn(f64, &Drift) -> f64| window_means(evaluation, of);
        let same = |_: f64, drift: &Drift| f64::from(u8::from(drift.same_top));
        if let Some(limit) = limits.max_kl {
            let kl = means(&|_, drift| drift.kl);
            let check = check(Metric::KlDivergence, limit, Side::AtMost, &kl, confidence, |x| x);
            let bound = evaluation.base_logits.is_some_and(|kept| kept.kl_is_lower_bound);
            checks.push(if bound { of_lower_bound(check) } else { check });
        }
        if let Some(limit) = limits.max_ppl_increase {
            let logs = means(&|nll, drift| nll - drift.base_nll);
            checks.push(check(
                Metric::PerplexityIncrease,
                limit,
                Side::AtMost,
                &logs,
                confidence,
                f64::exp_m1,
            ));
        }
        if let Some(limit) = limits.min_top1 {
            checks.push(check(Metric::Top1Agreement, limit, Side::AtLeast, &means(&same), confidence, |x| x));
        }
    }
    if let Some(limit) = limits.max_bytes {
        let verdict = if bytes <= limit { Verdict::Passed } else { Verdict::Regression };
        let (limit, value) = (limit as f64, bytes as f64);
        let metric = Metric::Bytes;
        checks.push(Check { metric, limit, value, interval: None, verdict, windows_needed: None });
    }
    checks
}

/// A lower bound of what is limited from above can break the limit, and never keep it.
fn of_lower_bound(check: Check) -> Check {
    match check.verdict {
        Verdict::Passed | Verdict::Undecided => {
            Check { verdict: Verdict::Undecided, windows_needed: None, ..check }
        }
        Verdict::Regression => check,
    }
}

/// Of each window, what `of` makes of a token's nll and drift: the mean, where all windows have as many scored tokens. Where they
/// have not, the mean over all tokens and the window's part in its error, so that the mean of these over the windows is the
/// mean over the tokens (the ratio of the sums over windows, to first order: Cochran, "Sampling Techniques", section 6.5).
///
/// # Panics
/// If there was no base.
fn window_means(evaluation: &Evaluation, of: impl Fn(f64, &Drift) -> f64) -> Vec<f64> {
    let drift = evaluation.scores.drift.as_deref().expect("limits on losses need a base");
    let nll = &evaluation.scores.nll;
    let sum = |rows: Range<usize>| rows.map(|row| of(nll[row], &drift[row])).sum::<f64>();
    let windows: Vec<(f64, f64)> =
        evaluation.window_rows().map(|rows| (rows.len() as f64, sum(rows))).collect();
    let tokens = windows.iter().map(|(tokens, _)| tokens).sum::<f64>();
    if windows.iter().all(|(tokens, _)| *tokens == windows[0].0) {
        return windows.iter().map(|(tokens, sum)| sum / tokens).collect();
    }
    let mean = windows.iter().map(|(_, sum)| sum).sum::<f64>() / tokens;
    let usual = tokens / windows.len() as f64;
    windows.iter().map(|(tokens, sum)| mean + (sum - mean * tokens) / usual).collect()
}

/// The verdict on all: the worst of them.
pub fn conclusion(checks: &[Check]) -> Verdict {
    checks.iter().map(|check| check.verdict).max().unwrap_or(Verdict::Undecided)
}

/// On which side of its limit a value should be.
#[derive(Clone, Copy)]
enum Side {
    AtMost,
    AtLeast,
}

/// The mean of `windows`, seen through an increasing function, against a limit.
fn check(
    metric: Metric,
    limit: f64,
    side: Side,
    windows: &[f64],
    confidence: f64,
    seen: impl Fn(f64) -> f64,
) -> Check {
    let value = seen(windows.iter().sum::<f64>() / windows.len() as f64);
    if windows.len() < FEWEST_WINDOWS {
        let windows_needed = Some(FEWEST_WINDOWS as u64);
        return Check { metric, limit, value, interval: None, verdict: Verdict::Undecided, windows_needed };
    }
    let Interval { low, high } = interval(windows, confidence);
    let interval = Interval { low: seen(low), high: seen(high) };
    conclude(metric, limit, side, (value, interval), windows.len())
}

/// The verdict on a value with bounds from so many observations.
fn conclude(
    metric: Metric,
    limit: f64,
    side: Side,
    (value, interval): (f64, Interval),
    observations: usize,
) -> Check {
    let (worse, better) = match side {
        Side::AtMost => (interval.high - limit, interval.low - limit),
        Side::AtLeast => (limit - interval.low, limit - interval.high),
    };
    let verdict = if worse <= 0.0 {
        Verdict::Passed
    } else if better > 0.0 {
        Verdict::Regression
    } else {
        Verdict::Undecided
    };
    // the distance from the value to the bound that crosses the limit shrinks with the root of the number of observations
    let reach = if value <= limit { interval.high - value } else { value - interval.low };
    let needed = (observations as f64 * (reach / (limit - value)).powi(2)).ceil();
    let windows_needed =
        (verdict == Verdict::Undecided && needed.is_finite() && needed < 1e9).then_some(needed as u64);
    Check { metric, limit, value, interval: Some(interval), verdict, windows_needed }
}

#[cfg(test)]
mod tests;
