//! `slmc gate`

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use slmc_pipeline::frames;
use slmc_pipeline::jobs::gate::{GateOutcome, Verdict, gate};
use slmc_report::checks::{self, Check, bounds_title};
use slmc_report::{Report, ReportError, github, junit, markdown};

use super::{failure, print_json, report};
use crate::args::gate::{Gate, When};
use crate::failure::Failure;
use crate::resolve::Resolver;
use crate::terminal::progress::Terminal;
use crate::terminal::table::table;

/// Exit codes beside 0 for a pass.
const REGRESSION: u8 = 3;
const UNDECIDED: u8 = 4;

pub fn run(args: &Gate, resolver: &Resolver, terminal: &Terminal, json: bool) -> Result<ExitCode, Failure> {
    let directory = report::directory(&args.report)?;
    let outcome = gate(&resolver.gate(args)?, terminal).map_err(failure)?;
    let told = frames::gate::report(&outcome, &report::run()).map_err(failure)?;
    if json {
        print_json(&outcome)?;
    } else {
        print(&outcome, &told);
    }
    annotate(args.annotations, &told);
    report::write(directory.as_ref(), || Ok(told.clone()))?;
    if let Some(path) = &args.junit {
        report::write_file(path, junit::write(&told))?;
    }
    if let Some(path) = &args.markdown {
        write_markdown(path, markdown::gate(&told))?;
    }
    Ok(match outcome.verdict {
        Verdict::Passed => ExitCode::SUCCESS,
        Verdict::Regression => ExitCode::from(REGRESSION),
        Verdict::Undecided => ExitCode::from(UNDECIDED),
    })
}

fn print(outcome: &GateOutcome, told: &Report) {
    if let Some(measured) = &outcome.evaluation {
        let evaluation = &measured.evaluation;
        println!("{}: {} windows of {} tokens", measured.text, evaluation.windows, evaluation.n_ctx);
    }
    if let Some(answered) = &outcome.tasks {
        super::tasks::print(answered, false);
    }
    let checks = Check::all(told);
    let rows = checks.iter().filter(|check| check.metric.is_some()).map(|check| {
        let (limit, value) = (check.shown(check.limit), check.shown(check.value));
        [check.requirement(), limit, value, check.shown_bounds(), check.outcome()]
    });
    println!("{}", table(["", "limit", "measured", bounds_title(told).as_str(), "verdict"], rows));
    for check in checks.iter().filter(|check| check.metric.is_none()) {
        println!("{}", check.outcome());
    }
    if let Some(verdict) = checks::verdict(told) {
        println!("{}", verdict.sentence());
    }
}

/// On standard error, so that standard output stays a table or one object; GitHub's runner looks at both.
fn annotate(when: When, told: &Report) {
    let on_github = || std::env::var_os("GITHUB_ACTIONS").is_some_and(|value| value == "true");
    if when == When::Always || when == When::Auto && on_github() {
        github::annotations(told).iter().for_each(|line| eprintln!("{line}"));
    }
}

/// A step's summary on GitHub may have parts of other commands of the step, so it is appended to.
fn write_markdown(path: &Path, text: Result<String, ReportError>) -> Result<(), Failure> {
    if std::env::var_os("GITHUB_STEP_SUMMARY").is_none_or(|summary| summary != path) {
        return report::write_file(path, text);
    }
    let text = text.map_err(|error| report::failure(&error))?;
    let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|source| report::failure(&ReportError::Io { path: path.to_owned(), source }))
}
