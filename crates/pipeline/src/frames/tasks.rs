//! Answers to tasks as measurements.

use std::path::Path;

use slmc_report::{Measurement, Metric, Rows, Scope};

use super::about;
use crate::jobs::tasks::{Scores, TaskOutcome, TasksOutcome};

/// The share of right answers of every task, the model's and then the base's, and the items that flipped.
pub(super) fn rows(model: &Path, base: Option<&Path>, outcome: &TasksOutcome) -> Vec<Measurement> {
    let mut rows = about(model, base);
    if !outcome.complete {
        let (done, planned) = (outcome.items, outcome.items_planned);
        rows.add(Scope::Run, Metric::Warning)
            .text(format!("incomplete: interrupted after {done} of {planned} items"));
    }
    for task in &outcome.tasks {
        scores(&mut rows, task, &task.scores);
        if let Some(comparison) = &task.comparison {
            let flips = comparison.flips;
            rows.add(Scope::Task, Metric::ItemsLost).item(&task.name).value(flips.lost as f64);
            rows.add(Scope::Task, Metric::ItemsWon).item(&task.name).value(flips.gained as f64);
        }
    }
    let mut all = rows.finish();
    if let Some(base) = base {
        let mut rows = about(base, None);
        for task in &outcome.tasks {
            task.base.iter().for_each(|base| scores(&mut rows, task, base));
        }
        all.extend(rows.finish());
    }
    all
}

fn scores(rows: &mut Rows, task: &TaskOutcome, scores: &Scores) {
    rows.add(Scope::Task, Metric::Items).item(&task.name).value(task.items as f64);
    let all = [
        (Metric::Accuracy, scores.acc, scores.acc_stderr),
        (Metric::AccuracyNormalized, scores.acc_norm, scores.acc_norm_stderr),
        (Metric::MacroF1, scores.f1, None),
        (Metric::ExactMatch, scores.exact_match, scores.exact_match_stderr),
    ];
    for (metric, value, stderr) in all {
        let Some(value) = value else { continue };
        let row = rows.add(Scope::Task, metric).item(&task.name).value(value);
        if let Some(stderr) = stderr {
            row.stderr(stderr);
        }
    }
}
