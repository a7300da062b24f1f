//! A gate's outcome as GitHub Actions' workflow commands, which become annotations of the run.
//!
//! The syntax and its escapes are those of "Workflow commands for GitHub Actions" in GitHub's documentation and of the toolkit
//! (`packages/core/src/command.ts` in actions/toolkit). The runner looks for them on both output streams of a step
//! (`ScriptHandler.cs` in actions/runner).

use crate::checks::{Check, Verdict, verdict};
use crate::{Report, report};

/// One line for each limit that fails the job; where none does, one line that says so.
pub fn annotations(report: &Report) -> Vec<String> {
    let model = report::name(report.model());
    let checks = Check::all(report);
    let mut lines: Vec<String> = checks
        .iter()
        .filter_map(|check| {
            let what = match check.verdict {
                Verdict::Passed => return None,
                Verdict::Regression => "regression",
                Verdict::Undecided => "cannot decide",
            };
            Some(command("error", &format!("slmc gate: {model}: {what}"), &check.sentence()))
        })
        .collect();
    if lines.is_empty() && verdict(report) == Some(Verdict::Passed) {
        let kept: Vec<_> = checks.iter().map(Check::sentence).collect();
        lines.push(command("notice", &format!("slmc gate: {model}: passed"), &kept.join("\n")));
    }
    lines
}

fn command(kind: &str, title: &str, message: &str) -> String {
    let title = data(title).replace(':', "%3A").replace(',', "%2C");
    format!("::{kind} title={title}::{}", data(message))
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}
