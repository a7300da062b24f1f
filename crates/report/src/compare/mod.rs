//! Runs side by side: what each is, which is best at what, and whether their figures are about the same thing.

mod differences;
mod document;

use serde::Serialize;

use crate::{Better, Measurement, Metric, Report, Scope, Side, report};

pub use differences::Difference;

/// Runs beside each other.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// What is compared: the original first, where all runs have the same, then every run.
    pub columns: Vec<Column>,
    /// One line a figure that any of them has.
    pub lines: Vec<Line>,
    /// Settings by which runs differ, so that some lines say nothing about which is better.
    pub differences: Vec<Difference>,
}

/// One of the things compared.
#[derive(Clone, Debug, Serialize)]
pub struct Column {
    /// What people call it, told apart from the others.
    pub label: String,
    /// The model.
    pub model: String,
    /// Where its report was read; none for the original.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
}

/// One figure of all of them.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// What was measured.
    pub metric: Metric,
    /// Of which task or stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item: Option<String>,
    /// Whether the figures are about the same thing.
    pub comparable: bool,
    /// What each has.
    pub cells: Vec<Option<Measurement>>,
    /// Which of the runs have the best value; none where it is not to be told.
    pub best: Vec<usize>,
}

impl Line {
    /// What people call it.
    pub fn label(&self) -> String {
        match &self.item {
            Some(item) => format!("{item}: {}", self.metric.label()),
            None => self.metric.label().to_owned(),
        }
    }
}

/// Figures of a whole model that are compared: its size, and what was measured on a text.
const SIZES: [Metric; 3] = [Metric::Bytes, Metric::BitsPerWeight, Metric::Sparsity];
const OWN: [Metric; 2] = [Metric::Perplexity, Metric::BitsPerByte];
const AGAINST_BASE: [Metric; 4] =
    [Metric::PerplexityIncrease, Metric::KlDivergence, Metric::Top1Agreement, Metric::Top5Agreement];
const TASKS: [Metric; 4] =
    [Metric::Accuracy, Metric::AccuracyNormalized, Metric::MacroF1, Metric::ExactMatch];
const LATENCY: [Metric; 6] = [
    Metric::LoadSeconds,
    Metric::FirstTokenSeconds,
    Metric::LatencyP50,
    Metric::LatencyP95,
    Metric::TokensPerSecond,
    Metric::PeakMemory,
];

impl Comparison {
    /// Of reports with the paths they were read from.
    pub fn new(runs: &[(String, Report)]) -> Self {
        let base = common_base(runs);
        let mut columns = Vec::new();
        columns.extend(base.map(|(_, report)| {
            let model = report.base().unwrap_or_default().to_owned();
            Column { label: format!("{} (original)", report::name(&model)), model, run: None }
        }));
        for (path, report) in runs {
            let name = report::name(report.model());
            let others = runs.iter().filter(|(_, other)| report::name(other.model()) == name).count();
            let label = if others > 1 { format!("{name} ({path})") } else { name.to_owned() };
            columns.push(Column { label, model: report.model().to_owned(), run: Some(path.clone()) });
        }
        let differences = differences::all(runs);
        let mut this = Self { columns, lines: Vec::new(), differences };
        let sides: Vec<(Side, &Report)> = base
            .map(|(_, report)| (Side::Base, report))
            .into_iter()
            .chain(runs.iter().map(|(_, report)| (Side::Model, report)))
            .collect();
        let same_text = !this.differences.iter().any(|difference| difference.of_text());
        let same_base = same_text && !this.differences.iter().any(Difference::of_base);
        let same_timing = !this.differences.iter().any(Difference::of_timing);
        for metric in SIZES {
            this.add(&sides, Scope::Summary, None, metric, true);
        }
        for metric in OWN {
            this.add(&sides, Scope::Summary, None, metric, same_text);
        }
        for metric in AGAINST_BASE {
            this.add(&sides, Scope::Summary, None, metric, same_base);
        }
        for (scope, metrics) in [(Scope::Task, &TASKS[..]), (Scope::Latency, &LATENCY[..])] {
            for (item, metric) in items(runs, scope, metrics) {
                let comparable = match scope {
                    Scope::Task => same_items(runs, item.as_deref()),
                    _ => same_timing,
                };
                this.add(&sides, scope, item.as_deref(), metric, comparable);
            }
        }
        this
    }

    fn add(
        &mut self,
        sides: &[(Side, &Report)],
        scope: Scope,
        item: Option<&str>,
        metric: Metric,
        comparable: bool,
    ) {
        let cells: Vec<Option<Measurement>> =
            sides.iter().map(|(side, report)| report.find(*side, scope, item, metric).cloned()).collect();
        if cells.iter().all(Option::is_none) {
            return;
        }
        // the original is no candidate: it lost nothing
        let candidates = cells.iter().enumerate().filter(|(n, _)| sides[*n].0 == Side::Model);
        let values: Vec<(usize, f64)> =
            candidates.filter_map(|(n, cell)| Some((n, cell.as_ref()?.value?))).collect();
        let best = match metric.better() {
            Better::Lower => values.iter().map(|(_, value)| *value).reduce(f64::min),
            Better::Higher => values.iter().map(|(_, value)| *value).reduce(f64::max),
            Better::Neither => None,
        };
        let alike = values.windows(2).all(|pair| pair[0].1 == pair[1].1);
        let best = best.filter(|_| comparable && !alike);
        let best = values.iter().filter(|(_, value)| Some(*value) == best).map(|(n, _)| *n).collect();
        self.lines.push(Line { metric, item: item.map(str::to_owned), comparable, cells, best });
    }
}

/// A run whose base stands for all runs': every run that has a base has the same.
fn common_base(runs: &[(String, Report)]) -> Option<&(String, Report)> {
    let (first, others) = runs.split_first()?;
    first.1.base()?;
    others.iter().all(|(_, report)| differences::same_base(&first.1, report)).then_some(first)
}

/// Items of a scope that have any of the metrics, in the order of the runs.
fn items(runs: &[(String, Report)], scope: Scope, metrics: &[Metric]) -> Vec<(Option<String>, Metric)> {
    let mut items = Vec::new();
    for row in runs.iter().flat_map(|(_, report)| report.of(scope)) {
        let item = (row.item.clone(), row.metric);
        if metrics.contains(&row.metric) && !items.contains(&item) {
            items.push(item);
        }
    }
    items
}

/// Whether all runs answered the same number of a task's items.
fn same_items(runs: &[(String, Report)], task: Option<&str>) -> bool {
    let mut counts = runs
        .iter()
        .filter_map(|(_, report)| report.find(Side::Model, Scope::Task, task, Metric::Items)?.value);
    let first = counts.next();
    counts.all(|count| Some(count) == first)
}
