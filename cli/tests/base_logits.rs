//! A base model's predictions from a file, in the model's place.

mod common;

use std::path::Path;
use std::process::Output;

use common::{copy_tiny, says, slmc, stderr, stdout};
use serde_json::Value;

const MEASURED: [&str; 4] = ["--text", "text.txt", "--n-ctx", "64"];

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", stderr(output));
    serde_json::from_str(&stdout(output)).unwrap()
}

/// The bundled model, one of it rounded to four bits, and a text of some windows.
fn models(directory: &Path) {
    copy_tiny(&directory.join("model"));
    let quantize =
        ["quantize", "model", "--method", "rtn", "--type", "q4_0", "--output", "q4.gguf", "--no-eval"];
    let quantized = slmc(directory, quantize);
    assert!(quantized.status.success(), "{}", stderr(&quantized));
    let text = std::fs::read_to_string(common::tiny().join("../../calibration/data/english.txt")).unwrap();
    let end = text.floor_char_boundary(5000);
    std::fs::write(directory.join("text.txt"), &text[..end]).unwrap();
}

fn cache(directory: &Path, k: &str, output: &str, more: &[&str]) -> Output {
    let first = ["distill", "cache-logits", "--teacher", "model", "--for-eval", "--json"];
    slmc(directory, [&first[..], &MEASURED, &["--top-k", k, "--output", output], more].concat())
}

#[test]
fn predictions_from_a_file_measure_as_their_model_does() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    models(directory);
    let whole = json(&cache(directory, "100000", "whole.logits", &[]));
    let vocab = whole["vocab"].as_u64().unwrap();
    assert_eq!((whole["k"].as_u64(), whole["records"].as_str()), (Some(vocab), Some("windows")));
    json(&cache(directory, "16", "some.logits", &[]));
    // begun and killed in the middle of a record: the same bytes in the end
    let some = std::fs::read(directory.join("some.logits")).unwrap();
    std::fs::write(directory.join("again.logits.partial"), &some[..some.len() * 2 / 3]).unwrap();
    json(&cache(directory, "16", "again.logits", &["--resume"]));
    assert!(std::fs::read(directory.join("again.logits")).unwrap() == some);

    let eval = |more: &[&str]| {
        json(&slmc(directory, [&["eval", "q4.gguf", "--json"], &MEASURED[..], more].concat()))
    };
    let live = eval(&["--base", "model", "--worst", "0"]);
    let [exact, bound] = ["whole.logits", "some.logits"].map(|name| eval(&["--base-logits", name]));
    let of = |outcome: &Value, pointer: &str| outcome.pointer(pointer).unwrap().as_f64().unwrap();
    for outcome in [&exact, &bound] {
        assert_eq!(outcome["windows"], live["windows"]);
        assert_eq!(outcome["base"], "model");
        for figure in
            ["/perplexity", "/base_perplexity", "/top1_agreement", "/top5_agreement", "/delta_p/rms"]
        {
            let (found, expected) = (of(outcome, figure), of(&live, figure));
            assert!((found - expected).abs() <= 1e-5 * expected, "{figure}: {found} {expected}");
        }
    }
    let mean = |outcome: &Value| of(outcome, "/kl_divergence/mean");
    assert!((mean(&exact) - mean(&live)).abs() < 1e-6, "{} {}", mean(&exact), mean(&live));
    assert!(
        mean(&bound) < mean(&live) && mean(&bound) > 0.3 * mean(&live),
        "{} {}",
        mean(&bound),
        mean(&live)
    );
    let is_bound = |outcome: &Value| outcome["base_logits"]["kl_is_lower_bound"].as_bool().unwrap();
    assert_eq!((is_bound(&exact), is_bound(&bound)), (false, true));
    assert_eq!(
        (&exact["warnings"], &bound["warnings"][0]["kind"]),
        (&Value::Array(vec![]), &"lower_bound".into())
    );
    let told =
        slmc(directory, [&["eval", "q4.gguf", "--base-logits", "some.logits"], &MEASURED[..]].concat());
    assert!(says(&stdout(&told), "KL divergence, at least, mean"), "{}", stdout(&told));
    assert!(says(&stderr(&told), "lower bounds"), "{}", stderr(&told));
}

#[test]
fn a_gate_holds_a_model_against_predictions_from_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    models(directory);
    json(&cache(directory, "32", "base.logits", &[]));
    let gate = |more: &[&str]| {
        slmc(directory, [&["gate", "q4.gguf", "--report", "report"], &MEASURED[..], more].concat())
    };
    // A lower bound breaks a limit, and never keeps it.
    for (limit, code) in [("10", 4), ("1e-6", 3)] {
        let limited = ["--base-logits", "base.logits", "--max-kl", limit, "--markdown", "gate.md"];
        let output = gate(&limited);
        assert_eq!(output.status.code(), Some(code), "{}{}", stdout(&output), stderr(&output));
        assert!(says(&stderr(&output), "lower bounds"), "{}", stderr(&output));
        for told in ["gate.md", "report/report.html"] {
            let text = std::fs::read_to_string(directory.join(told)).unwrap();
            assert!(says(&text, "lower bounds"), "{told}: {text}");
        }
        std::fs::remove_dir_all(directory.join("report")).unwrap();
    }
    // losses of one kind say nothing of the other
    let saved = gate(&["--base-logits", "base.logits", "--save-baseline", "gate.json"]);
    assert!(saved.status.success(), "{}", stderr(&saved));
    let same = gate(&["--base-logits", "base.logits", "--baseline", "gate.json"]);
    assert!(same.status.success(), "{}{}", stdout(&same), stderr(&same));
    let other = gate(&["--base", "model", "--baseline", "gate.json"]);
    assert_eq!(other.status.code(), Some(4), "{}{}", stdout(&other), stderr(&other));
    assert!(says(&stdout(&other), "the 32 likeliest tokens"), "{}", stdout(&other));
}

#[test]
fn predictions_of_something_else_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    models(directory);
    json(&cache(directory, "8", "base.logits", &["--windows", "3"]));
    let run = ["distill", "cache-logits", "--teacher", "model", "--text", "text.txt", "--seq-len", "48"];
    json(&slmc(directory, [&run[..], &["--output", "run.logits", "--json"]].concat()));
    std::fs::write(directory.join("other.txt"), "Another text, of which there is enough. ".repeat(200))
        .unwrap();
    let mut damaged = std::fs::read(directory.join("base.logits")).unwrap();
    let end = damaged.len() - 4;
    damaged[end..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(directory.join("damaged.logits"), damaged).unwrap();
    let three = json(&slmc(
        directory,
        [&["eval", "model", "--base-logits", "base.logits", "--json"], &MEASURED[..]].concat(),
    ));
    assert_eq!(three["windows"], 3);
    assert!(three["kl_divergence"]["max"].as_f64().unwrap() < 1e-5, "{three}");
    for (arguments, expected) in [
        (&["--base-logits", "base.logits", "--text", "other.txt", "--n-ctx", "64"][..], "another text"),
        (&["--base-logits", "base.logits", "--text", "text.txt"], "give --n-ctx 64"),
        (
            &["--base-logits", "base.logits", "--text", "text.txt", "--n-ctx", "64", "--windows", "4"],
            "has 3 windows",
        ),
        (&["--base-logits", "run.logits", "--text", "text.txt", "--n-ctx", "64"], "--for-eval"),
        (&["--base-logits", "damaged.logits", "--text", "text.txt", "--n-ctx", "64"], "no prediction"),
        (
            &["--base-logits", "text.txt", "--text", "text.txt", "--n-ctx", "64"],
            "holds no model's predictions",
        ),
    ] {
        let output = slmc(directory, [&["eval", "q4.gguf"], arguments].concat());
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", stderr(&output));
        assert!(says(&stderr(&output), expected), "{arguments:?}: {}", stderr(&output));
    }
    // another tokenizer that reads the text alike: a token that does not come is spelt otherwise
    copy_tiny(&directory.join("other"));
    let path = directory.join("other/tokenizer.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let changed = text
        .replace("\"Ġthe\":", "\"\u{1}\":")
        .replace("\"Ġand\":", "\"Ġthe\":")
        .replace("\"\u{1}\":", "\"Ġand\":");
    assert_ne!(changed, text);
    std::fs::write(&path, changed).unwrap();
    let output =
        slmc(directory, [&["eval", "other", "--base-logits", "base.logits"], &MEASURED[..]].concat());
    assert!(says(&stderr(&output), "another tokenizer"), "{}", stderr(&output));
    let distill = ["distill", "--teacher-logits", "base.logits", "--temperature", "1", "--student", "model"];
    let output = slmc(directory, [&distill[..], &["--text", "text.txt", "--output", "out"]].concat());
    assert!(says(&stderr(&output), "not for a run"), "{}", stderr(&output));
}
