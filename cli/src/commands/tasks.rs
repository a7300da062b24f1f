//! How tasks are printed.

use slmc_pipeline::jobs::tasks::{Flipped, Scores, TaskOutcome, TasksOutcome};

use crate::terminal::table::table;

/// Characters of an item's end that are shown.
const SHOWN: usize = 72;

/// A table of all tasks, and below it what of a comparison does not fit into one.
pub fn print(outcome: &TasksOutcome, flips: bool) {
    let TasksOutcome { complete, items, items_planned, tasks, .. } = outcome;
    if !complete {
        println!("incomplete: interrupted after {items} of {items_planned} items");
    }
    let compared = tasks.iter().any(|task| task.base.is_some());
    let with_f1 = tasks.iter().any(|task| task.scores.f1.is_some());
    let mut header = vec!["task", "layout", "items", "shots", "acc %", "acc_norm %"];
    header.extend(with_f1.then_some("macro F1 %"));
    if compared {
        header.extend(["base acc %", "base acc_norm %"]);
        header.extend(with_f1.then_some("base macro F1 %"));
        header.extend(["acc change (bounds of 95 %)", "gained / lost", "McNemar p"]);
    }
    println!("{}", table(header, tasks.iter().map(|task| row(task, with_f1))));
    if flips {
        tasks.iter().for_each(print_flips);
    }
}

fn row(task: &TaskOutcome, with_f1: bool) -> Vec<String> {
    let mut row = vec![
        task.name.clone(),
        task.format.to_string(),
        task.items.to_string(),
        task.fewshot.to_string(),
        acc(&task.scores),
        acc_norm(&task.scores),
    ];
    row.extend(with_f1.then(|| f1(&task.scores)));
    if let (Some(base), Some(comparison)) = (&task.base, &task.comparison) {
        let interval = &comparison.difference_interval;
        let signed = |share: f64| format!("{:+.1}", 100.0 * share);
        row.extend([acc(base), acc_norm(base)]);
        row.extend(with_f1.then(|| f1(base)));
        row.extend([
            format!(
                "{} ({} … {})",
                signed(comparison.difference),
                signed(interval.low),
                signed(interval.high)
            ),
            format!("{} / {}", comparison.flips.gained, comparison.flips.lost),
            format!("{:.3}", comparison.mcnemar_p),
        ]);
    }
    row
}

fn acc(scores: &Scores) -> String {
    let exact_match = scores.exact_match.zip(scores.exact_match_stderr);
    shown(scores.acc.zip(scores.acc_stderr).or(exact_match))
}

fn acc_norm(scores: &Scores) -> String {
    shown(scores.acc_norm.zip(scores.acc_norm_stderr))
}

fn f1(scores: &Scores) -> String {
    scores.f1.map_or_else(String::new, |f1| format!("{:.1}", 100.0 * f1))
}

/// In per cent.
fn shown(score: Option<(f64, f64)>) -> String {
    score.map_or_else(String::new, |(mean, stderr)| format!("{:.1} ± {:.1}", 100.0 * mean, 100.0 * stderr))
}

fn print_flips(task: &TaskOutcome) {
    let Some(comparison) = &task.comparison else { return };
    for (gained, title) in [(false, "lost"), (true, "gained")] {
        let flipped: Vec<_> = comparison.flipped.iter().filter(|item| item.gained == gained).collect();
        println!("{}, {title}: {}", task.name, flipped.len());
        for Flipped { line, context, right, wrong, .. } in flipped {
            println!("  line {line}: {} → {:?}, not {:?}", end(context), right, wrong);
        }
    }
}

/// The end of a text, in one line.
fn end(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let skipped = line.chars().count().saturating_sub(SHOWN);
    let shown: String = line.chars().skip(skipped).collect();
    if skipped > 0 { format!("…{shown}") } else { shown }
}
