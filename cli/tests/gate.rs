//! `slmc gate`: what passes, what fails, what cannot be decided, and the exit codes of each.

mod common;

use std::path::Path;
use std::process::Output;

use common::{copy_tiny, says, slmc, stderr, stdout};
use serde_json::Value;

fn quantize(directory: &Path, ty: &str) {
    let output = format!("{ty}.gguf");
    let arguments = ["quantize", "model", "--method", "rtn", "--no-eval", "--type", ty, "--output", &output];
    let output = slmc(directory, arguments);
    assert!(output.status.success(), "{}", stderr(&output));
}

fn gate(directory: &Path, model: &str, more: &[&str]) -> Output {
    slmc(directory, [&["gate", model, "--text", "bundled:english", "--n-ctx", "128"], more].concat())
}

#[test]
fn a_good_model_passes_and_a_bad_one_is_a_regression() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    quantize(directory, "q6_k");
    quantize(directory, "q2_k");
    let limits =
        ["--base", "model", "--max-kl", "0.01", "--max-ppl-increase", "2%", "--min-top1", "0.9", "--json"];
    for (model, code, verdict) in [("q6_k.gguf", 0, "passed"), ("q2_k.gguf", 3, "regression")] {
        let output = gate(directory, model, &limits);
        assert_eq!(output.status.code(), Some(code), "{model}: {}{}", stdout(&output), stderr(&output));
        let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!(report["verdict"], verdict, "{model}");
        assert_eq!(report["checks"].as_array().unwrap().len(), 3);
        // the values are those of the evaluation beside them
        let kl = report["checks"][0]["value"].as_f64().unwrap();
        let measured = report.pointer("/evaluation/kl_divergence/mean").and_then(Value::as_f64).unwrap();
        assert!((kl / measured - 1.0).abs() < 1e-9, "{kl} {measured}");
    }
    // nothing is lost against itself, and nothing is uncertain about that
    let output = gate(directory, "model", &["--base", "model", "--max-kl", "0", "--max-ppl-increase", "0"]);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    assert!(says(&stdout(&output), "Passed."), "{}", stdout(&output));
}

#[test]
fn what_cannot_be_decided_is_no_pass() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    quantize(directory, "q2_k");
    // five windows decide nothing, however bad the model
    let output = gate(directory, "q2_k.gguf", &["--base", "model", "--windows", "5", "--max-kl", "0.0001"]);
    assert_eq!(output.status.code(), Some(4), "{}", stdout(&output));
    assert!(says(&stdout(&output), "needs about 10 windows"), "{}", stdout(&output));
    assert!(says(&stdout(&output), "Cannot decide"), "{}", stdout(&output));
}

#[test]
fn a_baseline_holds_later_models_to_what_was_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    quantize(directory, "q4_k_m");
    quantize(directory, "q4_0");
    let output = gate(directory, "q4_k_m.gguf", &["--base", "model", "--save-baseline", "gate.json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let against = |model, more: &[&str]| {
        gate(directory, model, &[&["--base", "model", "--baseline", "gate.json"], more].concat())
    };
    assert_eq!(against("q4_k_m.gguf", &[]).status.code(), Some(0));
    let worse = against("q4_0.gguf", &[]);
    assert_eq!(worse.status.code(), Some(3), "{}", stdout(&worse));
    assert_eq!(against("q4_0.gguf", &["--max-kl-growth", "900%"]).status.code(), Some(0));
    let other = against("q4_k_m.gguf", &["--windows", "12"]);
    assert_eq!(other.status.code(), Some(4), "{}", stdout(&other));
    assert!(says(&stdout(&other), "windows of 128 tokens, this model on 12 of 128"), "{}", stdout(&other));
    std::fs::write(directory.join("gate.json"), "{}").unwrap();
    let bad = against("q4_k_m.gguf", &[]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(says(&stderr(&bad), "not a baseline of `slmc gate`"), "{}", stderr(&bad));
}

#[test]
fn settings_come_from_the_file_and_sizes_need_no_text() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    quantize(directory, "q2_k");
    let settings = "model = 'model'\n[gate]\nmodel = 'q2_k.gguf'\nmax_size = '20kB'\n";
    std::fs::write(directory.join("slmc.toml"), settings).unwrap();
    let output = slmc(directory, ["gate"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let output = slmc(directory, ["gate", "--max-size", "20MB"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn a_gate_without_limits_or_without_an_original_is_wrong_usage() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    for (arguments, message) in [
        (&["--base", "model"][..], "no limit given"),
        (&["--max-kl", "0.1"], "no original given"),
        (&["--base", "model", "--max-kl=-1"], "expected a number of at least 0"),
        (&["--base", "model", "--min-top1", "95"], "expected a share"),
        (&["--base", "model", "--max-ppl-increase", "much"], "expected a share such as 2%"),
        (&["--base", "model", "--max-kl", "1", "--confidence", "0.3"], "above 0.5 and below 1"),
    ] {
        let output = gate(directory, "model", arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(says(&stderr(&output), message), "{arguments:?}: {}", stderr(&output));
    }
}
