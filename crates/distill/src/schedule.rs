//! How the learning rate changes over a run.

use std::f64::consts::PI;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What follows the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Half a cosine down to zero (Loshchilov and Hutter 2016, arXiv:1608.03983, equation 5).
    #[default]
    Cosine,
    /// A straight line down to zero.
    Linear,
    /// The same until the end.
    Constant,
}

impl fmt::Display for Decay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cosine => "cosine",
            Self::Linear => "linear",
            Self::Constant => "constant",
        })
    }
}

impl FromStr for Decay {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let all = [Self::Cosine, Self::Linear, Self::Constant];
        all.into_iter()
            .find(|decay| decay.to_string() == name)
            .ok_or_else(|| format!("unknown schedule {name:?}; expected cosine, linear or constant"))
    }
}

/// A learning rate for every step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The highest learning rate.
    pub peak: f64,
    /// Steps in which it rises to that in a straight line.
    pub warmup_steps: u64,
    /// What follows.
    pub decay: Decay,
}

impl Schedule {
    /// The learning rate of step `step` (from 0) of a run of which the share `done` (0 to 1) lies behind.
    pub fn learning_rate(&self, step: u64, done: f64, total_steps: u64) -> f64 {
        if step < self.warmup_steps {
            return self.peak * (step + 1) as f64 / (self.warmup_steps + 1) as f64;
        }
        let warm = self.warmup_steps as f64 / total_steps.max(1) as f64;
        let progress = ((done - warm) / (1.0 - warm).max(f64::MIN_POSITIVE)).clamp(0.0, 1.0);
        self.peak
            * match self.decay {
                Decay::Cosine => 0.5 * (1.0 + (PI * progress).cos()),
                Decay::Linear => 1.0 - progress,
                Decay::Constant => 1.0,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_then_falls_to_nothing() {
        for decay in [Decay::Cosine, Decay::Linear, Decay::Constant] {
            let schedule = Schedule { peak: 0.5, warmup_steps: 4, decay };
            let rate = |step: u64| schedule.learning_rate(step, step as f64 / 24.0, 24);
            assert_eq!([rate(0), rate(1), rate(4)], [0.1, 0.2, 0.5], "{decay}");
            let middle = if decay == Decay::Constant { 0.5 } else { 0.25 };
            assert!((rate(14) - middle).abs() < 1e-12, "{decay}");
            assert!((4..23).all(|step| rate(step + 1) <= rate(step)), "{decay}");
            assert!(decay == Decay::Constant || rate(23) < 0.04, "{decay}");
            assert_eq!(decay.to_string().parse(), Ok(decay));
        }
        assert!("cubic".parse::<Decay>().is_err());
    }
}
