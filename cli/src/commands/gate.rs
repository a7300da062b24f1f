//! `slmc gate`

use std::process::ExitCode;

use slmc_pipeline::jobs::gate::{GateOutcome, Interval, Metric, Verdict, gate};

use super::{failure, print_json};
use crate::args::gate::Gate;
use crate::failure::Failure;
use crate::resolve::Resolver;
use crate::terminal::format::bytes;
use crate::terminal::progress::Terminal;
use crate::terminal::table::table;

/// Exit codes beside 0 for a pass.
const REGRESSION: u8 = 3;
const UNDECIDED: u8 = 4;

pub fn run(args: &Gate, resolver: &Resolver, terminal: &Terminal, json: bool) -> Result<ExitCode, Failure> {
    let outcome = gate(&resolver.gate(args)?, terminal).map_err(failure)?;
    if json {
        print_json(&outcome)?;
    } else {
        print(&outcome);
    }
    Ok(match outcome.verdict {
        Verdict::Passed => ExitCode::SUCCESS,
        Verdict::Regression => ExitCode::from(REGRESSION),
        Verdict::Undecided => ExitCode::from(UNDECIDED),
    })
}

fn print(outcome: &GateOutcome) {
    if let Some(measured) = &outcome.evaluation {
        let evaluation = &measured.evaluation;
        println!("{}: {} windows of {} tokens", measured.text, evaluation.windows, evaluation.n_ctx);
    }
    if let Some(answered) = &outcome.tasks {
        super::tasks::print(&answered.tasks, false);
    }
    let rows = outcome.checks.iter().map(|check| {
        let shown = |value| shown(check.metric, value);
        let bounds = check
            .interval
            .map_or_else(String::new, |Interval { low, high }| format!("{} … {}", shown(low), shown(high)));
        let verdict = match (check.verdict, check.windows_needed) {
            (Verdict::Passed, _) => "passed".to_owned(),
            (Verdict::Regression, _) => "regression".to_owned(),
            (Verdict::Undecided, Some(needed)) => format!("needs about {needed} {}", counted(check.metric)),
            (Verdict::Undecided, None) if !check.value.is_finite() => {
                "the original gets nothing right".to_owned()
            }
            (Verdict::Undecided, None) => "at its limit".to_owned(),
        };
        [named(check.metric).to_owned(), shown(check.limit), shown(check.value), bounds, verdict]
    });
    let between = format!("{:.0} % between", 100.0 * (2.0 * outcome.confidence - 1.0));
    println!("{}", table(["", "limit", "measured", between.as_str(), "verdict"], rows));
    if let Some(reason) = &outcome.incomparable {
        println!("{reason}");
    }
    println!(
        "{}",
        match outcome.verdict {
            Verdict::Passed => "Passed.",
            Verdict::Regression => "Regression: the model lost more than allowed, or grew slower.",
            Verdict::Undecided => "Cannot decide: more text or items to score, or other limits, would.",
        }
    );
}

fn named(metric: Metric) -> &'static str {
    match metric {
        Metric::KlDivergence => "KL divergence, at most",
        Metric::PerplexityIncrease => "perplexity increase, at most",
        Metric::Top1Agreement => "same most likely token, at least",
        Metric::Bytes => "size, at most",
        Metric::KlOverBaseline => "KL divergence over the baseline's, at most",
        Metric::AccuracyRatio => "accuracy over the original's, at least",
        Metric::LatencyIncrease => "latency per token, increase at most",
    }
}

/// What is resampled for it.
fn counted(metric: Metric) -> &'static str {
    match metric {
        Metric::AccuracyRatio => "items",
        Metric::LatencyIncrease => "repetitions",
        _ => "windows",
    }
}

fn shown(metric: Metric, value: f64) -> String {
    match metric {
        Metric::KlDivergence => format!("{value:.5}"),
        Metric::PerplexityIncrease | Metric::KlOverBaseline | Metric::LatencyIncrease => {
            format!("{:+.2} %", 100.0 * value)
        }
        Metric::Top1Agreement | Metric::AccuracyRatio => format!("{:.2} %", 100.0 * value),
        Metric::Bytes => bytes(value as u64),
    }
}
