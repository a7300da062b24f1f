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
fn a_baseline_keeps_which_items_were_right() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    // the model finds the answer of every other item
    let words = |odd: usize| {
        let item = |n: usize| {
            let answer = (n + odd) % 2;
            format!(
                "{{\"context\": \"{n} of the\", \"choices\": [\"first\", \"cc bb aa\"], \"answer\": {answer}}}\n"
            )
        };
        (0..60).map(item).collect::<String>()
    };
    std::fs::write(directory.join("items.jsonl"), words(0)).unwrap();
    let gate = |more: &[&str]| gate(directory, "model", &[&["--base", "model"], more].concat());
    let output = gate(&["--tasks", "items.jsonl", "--save-baseline", "gate.json"]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    let saved = std::fs::read_to_string(directory.join("gate.json")).unwrap();
    let mut saved: Value = serde_json::from_str(&saved).unwrap();
    assert_eq!((&saved["tasks"][0]["name"], &saved["tasks"][0]["items"]), (&"items".into(), &60.into()));

    let against = |more: &[&str]| gate(&[&["--baseline", "gate.json"], more].concat());
    // sixty items cannot tell 98 % from all
    let output = against(&["--tasks", "items.jsonl"]);
    assert_eq!(output.status.code(), Some(4), "{}{}", stdout(&output), stderr(&output));
    let output = against(&["--tasks", "items.jsonl", "--min-baseline-accuracy", "80%"]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    assert!(says(&stdout(&output), "accuracy over the baseline's"), "{}", stdout(&output));
    let output = against(&[]);
    assert_eq!(output.status.code(), Some(4), "{}", stdout(&output));
    assert!(says(&stdout(&output), "name its file with --tasks"), "{}", stdout(&output));
    let output = against(&["--tasks", "items.jsonl", "--limit", "40"]);
    assert_eq!(output.status.code(), Some(4), "{}", stdout(&output));
    // the same items with other answers are another file
    std::fs::write(directory.join("items.jsonl"), words(1)).unwrap();
    let output = against(&["--tasks", "items.jsonl"]);
    assert_eq!(output.status.code(), Some(4), "{}", stdout(&output));
    assert!(says(&stdout(&output), "another file `items`"), "{}", stdout(&output));

    // as if all had been right before
    std::fs::write(directory.join("items.jsonl"), words(0)).unwrap();
    let right = saved["tasks"][0]["right"].as_str().unwrap();
    let lost = "f".repeat(15);
    assert_ne!(right, lost, "the model gets some wrong");
    saved["tasks"][0]["right"] = lost.into();
    std::fs::write(directory.join("gate.json"), saved.to_string()).unwrap();
    let output = against(&["--tasks", "items.jsonl", "--min-baseline-accuracy", "100%"]);
    assert_eq!(output.status.code(), Some(3), "{}", stdout(&output));
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
