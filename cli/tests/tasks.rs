//! `slmc eval --tasks` and `slmc gate --min-accuracy-ratio`.

mod common;

use std::path::Path;

use common::{copy_tiny, says, slmc, stderr, stdout};
use serde_json::Value;

fn quantize(directory: &Path, ty: &str) {
    let output = format!("{ty}.gguf");
    let arguments = ["quantize", "model", "--method", "rtn", "--no-eval", "--type", ty, "--output", &output];
    let output = slmc(directory, arguments);
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn models_are_compared_item_by_item() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    quantize(directory, "q2_k");
    let arguments = ["eval", "q2_k.gguf", "--base", "model", "--tasks", "bundled:smoke"];
    let output = slmc(directory, [&arguments[..], &["--json"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert!(report.get("perplexity").is_none() && report["model"] == "q2_k.gguf", "{report}");
    let task = &report["tasks"][0];
    assert_eq!((task["name"].as_str(), task["format"].as_str()), (Some("bundled:smoke"), Some("plain")));
    let number =
        |pointer: &str| task.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer}"));
    let difference = number("/acc") - number("/base/acc");
    assert!((difference - number("/difference")).abs() < 1e-12);
    assert!((0.0..=1.0).contains(&number("/mcnemar_p")) && number("/acc_stderr") > 0.0);
    let (gained, lost) = (number("/flips/gained"), number("/flips/lost"));
    assert!(lost > 0.0, "2 bits lose something");
    assert!((difference - (gained - lost) / number("/items")).abs() < 1e-12);
    let flipped = task["flipped"].as_array().unwrap();
    assert_eq!(flipped.len() as f64, gained + lost);
    // the same items are printed on request
    let output = slmc(directory, [&arguments[..], &["--flips"]].concat());
    let text = stdout(&output);
    for item in flipped {
        assert!(says(&text, &format!("line {}:", item["line"])), "{item}\n{text}");
    }
    // on text and tasks at once
    let both = [
        "eval",
        "model",
        "--tasks",
        "bundled:smoke",
        "--limit",
        "20",
        "--text",
        "bundled:english",
        "--n-ctx",
        "128",
        "--windows",
        "2",
        "--json",
    ];
    let report: Value = serde_json::from_str(&stdout(&slmc(directory, both))).unwrap();
    assert!(report["perplexity"].is_number() && report["tasks"][0]["items"] == 20, "{report}");
}

#[test]
fn accuracy_passes_fails_or_cannot_be_told() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    quantize(directory, "q2_k");
    let gate = |model: &str, more: &[&str]| {
        let arguments = [&["gate", model, "--base", "model", "--min-accuracy-ratio"], more].concat();
        slmc(directory, arguments)
    };
    // the original itself
    let output = gate("model", &["0.98", "--tasks", "bundled:smoke", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(
        (&report["checks"][0]["metric"], &report["checks"][0]["value"]),
        (&"accuracy_ratio".into(), &1.0.into())
    );
    // five items tell nothing
    let output = gate("q2_k.gguf", &["98%", "--tasks", "bundled:smoke", "--limit", "5"]);
    assert_eq!(output.status.code(), Some(4), "{}", stdout(&output));
    assert!(says(&stdout(&output), "items"), "{}", stdout(&output));
    // a model that answers otherwise than the one whose answers count as right
    let words = |answer: usize| {
        let item = |n: usize| {
            format!(
                "{{\"context\": \"{n} of the\", \"choices\": [\"first\", \"cc bb aa\"], \"answer\": {answer}}}\n"
            )
        };
        (0..40).map(item).collect::<String>()
    };
    std::fs::write(directory.join("right.jsonl"), words(0)).unwrap();
    let settings =
        "model = 'model'\n[gate]\nmodel = 'model'\ntasks = ['right.jsonl']\nmin_accuracy_ratio = '101%'\n";
    std::fs::write(directory.join("slmc.toml"), settings).unwrap();
    let output = slmc(directory, ["gate"]);
    assert_eq!(output.status.code(), Some(4), "{}{}", stdout(&output), stderr(&output));
    std::fs::remove_file(directory.join("slmc.toml")).unwrap();
    let output = gate("model", &["0.98"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(says(&stderr(&output), "no tasks"), "{}", stderr(&output));
    let output = slmc(directory, ["gate", "model", "--base", "model", "--tasks", "bundled:smoke"]);
    assert!(says(&stderr(&output), "no limit"), "{}", stderr(&output));
}

#[test]
fn wrong_usage_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    for (arguments, code, message) in [
        (&["--tasks", "none.jsonl"][..], 1, "none.jsonl"),
        (&["--fewshot", "2"], 2, "--tasks bundled:smoke"),
        (&["--base", "model", "--flips"], 2, "--flips without --tasks"),
        (&["--tasks", "bundled:smoke", "--task-format", "quiz"], 2, "kobest_boolq"),
    ] {
        let output = slmc(directory, [&["eval", "model"], arguments].concat());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        assert!(says(&stderr(&output), message), "{arguments:?}: {}", stderr(&output));
    }
}
