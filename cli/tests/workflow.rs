//! The example workflow's commands, run for real.

mod common;

use common::{copy_tiny, slmc, stderr, stdout};

const WORKFLOW: &str = include_str!("../../docs/github-actions.yml");

#[test]
fn the_example_workflow_passes_its_own_gate() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("models/tiny"));
    let commands: Vec<&str> =
        WORKFLOW.lines().filter_map(|line| line.trim().strip_prefix("run: slmc ")).collect();
    assert_eq!(commands.len(), 2, "{commands:?}");
    for command in commands {
        let command = command.replace("\"$GITHUB_STEP_SUMMARY\"", "summary.md");
        let output = slmc(directory, command.split_whitespace());
        assert!(output.status.success(), "{command}: {}{}", stdout(&output), stderr(&output));
    }
    assert!(directory.join("model.gguf").is_file());
    for file in ["gate.xml", "gate-report/report.html", "gate-report/metrics.parquet"] {
        assert!(directory.join(file).is_file(), "{file}");
    }
    let summary = std::fs::read_to_string(directory.join("summary.md")).unwrap();
    assert!(summary.contains("**Passed.**"), "{summary}");
}
