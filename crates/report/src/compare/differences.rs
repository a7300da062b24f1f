//! By which settings runs differ.

use serde::Serialize;

use crate::{Metric, Report, Scope, Side};

/// A setting that is not the same in all runs that have it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// What differs: the name of a setting, or `base`.
    pub setting: &'static str,
    /// What people call it.
    pub label: &'static str,
    /// What each run has.
    pub values: Vec<Option<String>>,
}

const BASE: &str = "base";

/// Settings that decide what a figure measured on a text is about.
const TEXT: [Metric; 6] =
    [Metric::TokensSha256, Metric::Windowing, Metric::NCtx, Metric::Stride, Metric::Bos, Metric::Windows];
/// Settings that decide what a time is about.
const TIMING: [Metric; 5] =
    [Metric::Engine, Metric::Device, Metric::Threads, Metric::PromptTokens, Metric::GeneratedTokens];

impl Difference {
    /// Whether figures measured on a text cannot be compared.
    pub fn of_text(&self) -> bool {
        !self.of_base() && !self.of_timing()
    }

    /// Whether times cannot be compared.
    pub fn of_timing(&self) -> bool {
        TIMING.iter().any(|metric| metric.name() == self.setting)
    }

    /// Whether figures measured against the original cannot be compared.
    pub fn of_base(&self) -> bool {
        self.setting == BASE
    }

    /// One sentence.
    pub fn sentence(&self, labels: &[&str]) -> String {
        let of = self.values.iter().zip(labels);
        let told: Vec<String> = of
            .filter_map(|(value, label)| value.as_ref().map(|value| format!("{value} ({label})")))
            .collect();
        let what = match self.of_base() {
            true => "divergences and agreements cannot be compared",
            false if self.of_timing() => "times cannot be compared",
            false => "what was measured on the text cannot be compared",
        };
        format!("The runs differ in {}, so {what}: {}.", self.label, told.join(", "))
    }
}

/// All differences between runs that were measured on a text, and between those that were timed.
pub fn all(runs: &[(String, Report)]) -> Vec<Difference> {
    let measured: Vec<bool> =
        runs.iter().map(|(_, report)| report.own(Metric::Perplexity).is_some()).collect();
    let of = |value: &dyn Fn(&Report) -> Option<String>| -> Vec<Option<String>> {
        runs.iter()
            .zip(&measured)
            .map(|((_, report), measured)| value(report).filter(|_| *measured))
            .collect()
    };
    let differ = |values: &[Option<String>]| {
        let mut told = values.iter().flatten();
        let first = told.next();
        told.any(|value| Some(value) != first)
    };
    let mut differences = Vec::new();
    let setting = |report: &Report, metric: Metric| {
        let row = report.setting(metric)?;
        Some(if row.value.is_none() && row.text.is_none() { "none".into() } else { row.shown() })
    };
    for metric in TEXT {
        let values = of(&|report| setting(report, metric));
        if differ(&values) {
            differences.push(Difference { setting: metric.name(), label: metric.label(), values });
        }
    }
    // texts are known by their tokens; their names help to tell them apart
    if let Some(tokens) = differences.iter_mut().find(|d| d.setting == Metric::TokensSha256.name()) {
        tokens.label = "their text or its tokens";
        let names = of(&|report| report.setting_shown(Metric::MeasuredText));
        for (value, name) in tokens.values.iter_mut().zip(names) {
            if let (Some(hash), Some(name)) = (value.as_mut(), name) {
                *hash = format!("{name}, {}", hash.get(..8).unwrap_or(hash));
            }
        }
    }
    let with_base: Vec<&Report> = runs
        .iter()
        .map(|(_, report)| report)
        .filter(|report| report.base_own(Metric::Perplexity).is_some())
        .collect();
    if differences.is_empty() && with_base.windows(2).any(|pair| !same_base(pair[0], pair[1])) {
        let values = of(&|report| report.base().map(str::to_owned));
        differences.push(Difference { setting: BASE, label: "the original they are compared with", values });
    }
    let timed = |report: &Report| report.of(Scope::Latency).next().is_some();
    for metric in TIMING {
        let values: Vec<Option<String>> =
            runs.iter().map(|(_, report)| setting(report, metric).filter(|_| timed(report))).collect();
        if differ(&values) {
            differences.push(Difference { setting: metric.name(), label: metric.label(), values });
        }
    }
    differences
}

/// Whether two runs were compared with the same model: it has the same perplexity on the same text, where that was measured,
/// else the same path.
pub fn same_base(a: &Report, b: &Report) -> bool {
    let perplexity =
        |report: &Report| report.find(Side::Base, Scope::Summary, None, Metric::Perplexity)?.value;
    let tokens = |report: &Report| report.setting_shown(Metric::TokensSha256);
    match (perplexity(a), perplexity(b)) {
        (Some(x), Some(y)) if tokens(a) == tokens(b) => (x / y - 1.0).abs() < 1e-9,
        _ => a.base() == b.base(),
    }
}
