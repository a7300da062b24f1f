//! The limits of a gate, as its rows tell them.

use crate::{Better, Measurement, Metric, Report, Scope};

/// How something compares with its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It keeps the limit.
    Passed,
    /// Not enough was measured to tell.
    Undecided,
    /// It breaks the limit.
    Regression,
}

impl Verdict {
    /// Its name in a frame.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Undecided => "undecided",
            Self::Regression => "regression",
        }
    }

    /// What a person is told.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Passed => "Passed.",
            Self::Regression => "Regression: a limit is broken.",
            Self::Undecided => "Cannot decide: what was measured does not tell.",
        }
    }

    fn of(row: &Measurement) -> Option<Self> {
        let text = row.text.as_deref()?;
        [Self::Passed, Self::Undecided, Self::Regression].into_iter().find(|verdict| verdict.name() == text)
    }
}

/// One limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// The limit's name, such as `max_kl`.
    pub item: String,
    /// What it is about; none where nothing could be measured.
    pub metric: Option<Metric>,
    /// The limit.
    pub limit: Option<f64>,
    /// What was measured.
    pub value: Option<f64>,
    /// Between which bounds the true value lies.
    pub bounds: Option<(f64, f64)>,
    /// The conclusion.
    pub verdict: Verdict,
    /// About how many windows (of a task its items, of a latency its repetitions) would decide it.
    pub windows_needed: Option<f64>,
    /// Why nothing was decided, where it is not for too little text.
    pub reason: Option<String>,
}

impl Check {
    /// All limits of a report, in their order.
    pub fn all(report: &Report) -> Vec<Self> {
        let mut checks: Vec<Self> = Vec::new();
        for row in report.of(Scope::Check) {
            let Some(item) = &row.item else { continue };
            let at = checks.iter().position(|check| &check.item == item).unwrap_or_else(|| {
                checks.push(Self {
                    item: item.clone(),
                    metric: None,
                    limit: None,
                    value: None,
                    bounds: None,
                    verdict: Verdict::Undecided,
                    windows_needed: None,
                    reason: None,
                });
                checks.len() - 1
            });
            let check = &mut checks[at];
            match row.metric {
                Metric::Limit => check.limit = row.value,
                Metric::Verdict => check.verdict = Verdict::of(row).unwrap_or(Verdict::Undecided),
                Metric::WindowsNeeded => check.windows_needed = row.value,
                Metric::Reason => check.reason.clone_from(&row.text),
                metric => {
                    check.metric = Some(metric);
                    check.value = row.value;
                    check.bounds = row.low.zip(row.high);
                }
            }
        }
        checks
    }

    /// What is limited, and on which side: `KL divergence, at most`.
    pub fn requirement(&self) -> String {
        match self.metric {
            None => self.item.clone(),
            Some(metric) => {
                let side = if metric.better() == Better::Higher { "at least" } else { "at most" };
                format!("{}, {side}", metric.label())
            }
        }
    }

    /// A number of it as people read it; nothing where there is none.
    pub fn shown(&self, value: Option<f64>) -> String {
        self.metric.zip(value).map_or_else(String::new, |(metric, value)| metric.show(value))
    }

    /// The bounds as people read them.
    pub fn shown_bounds(&self) -> String {
        match self.bounds {
            Some((low, high)) => format!("{} … {}", self.shown(Some(low)), self.shown(Some(high))),
            None => String::new(),
        }
    }

    /// The conclusion, and what would lead to one.
    pub fn outcome(&self) -> String {
        match (self.verdict, &self.reason, self.windows_needed) {
            (Verdict::Passed, ..) => "passed".into(),
            (Verdict::Regression, ..) => "regression".into(),
            (Verdict::Undecided, Some(reason), _) => reason.clone(),
            (Verdict::Undecided, None, Some(needed)) => {
                format!("needs about {needed} {}", self.observations())
            }
            (Verdict::Undecided, None, None) => "at its limit".into(),
        }
    }

    /// What there would have to be more of.
    fn observations(&self) -> &'static str {
        match self.metric {
            Some(
                Metric::Accuracy
                | Metric::AccuracyNormalized
                | Metric::AccuracyRatio
                | Metric::AccuracyOverBaseline,
            ) => "items",
            Some(Metric::LatencyIncrease) => "repetitions",
            _ => "windows",
        }
    }

    /// One sentence with all of it.
    pub fn sentence(&self) -> String {
        let Some(metric) = self.metric else { return format!("{}: {}", self.item, self.outcome()) };
        let bounds =
            if self.bounds.is_some() { format!(" ({})", self.shown_bounds()) } else { String::new() };
        let side = if metric.better() == Better::Higher { "at least" } else { "at most" };
        let (value, limit) = (self.shown(self.value), self.shown(self.limit));
        format!("{} {value}{bounds}, allowed {side} {limit}: {}", metric.label(), self.outcome())
    }
}

/// The gate's conclusion; none where the report is not a gate's.
pub fn verdict(report: &Report) -> Option<Verdict> {
    report.own(Metric::Verdict).and_then(Verdict::of)
}

/// What the bounds are, as a column's title: `90 % between`.
pub fn bounds_title(report: &Report) -> String {
    match report.setting(Metric::Confidence).and_then(|row| row.value) {
        Some(confidence) => format!("{:.0} % between", 100.0 * (2.0 * confidence - 1.0)),
        None => "between".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rows;

    #[test]
    fn what_is_needed_is_counted_in_what_is_resampled() {
        for (metric, counted) in [
            (Metric::KlDivergence, "windows"),
            (Metric::AccuracyRatio, "items"),
            (Metric::AccuracyOverBaseline, "items"),
            (Metric::LatencyIncrease, "repetitions"),
        ] {
            let mut rows = Rows::new("m", Some("b"));
            rows.add(Scope::Check, metric).item("x").value(0.97);
            rows.add(Scope::Check, Metric::Verdict).item("x").text("undecided");
            rows.add(Scope::Check, Metric::WindowsNeeded).item("x").value(31.0);
            let checks = Check::all(&Report::new(rows.finish()));
            assert_eq!(checks[0].outcome(), format!("needs about 31 {counted}"));
        }
    }
}
