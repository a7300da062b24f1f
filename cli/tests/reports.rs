//! Reports and the gate's outputs: what they hold is what was measured, and they are there whatever the verdict.

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{copy_tiny, listing, says, slmc, stderr, stdout};
use serde_json::Value;

const REPORT: [&str; 4] = ["metrics.json", "metrics.parquet", "report.html", "report.md"];

fn run(directory: &Path, arguments: &[&str]) -> Output {
    let output = slmc(directory, arguments);
    assert!(output.status.success(), "{arguments:?}: {}{}", stdout(&output), stderr(&output));
    output
}

fn rows(directory: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(directory.join("metrics.json")).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    file["measurements"].as_array().unwrap().clone()
}

/// The value of the only row with these.
fn value(rows: &[Value], fields: &[(&str, &str)]) -> f64 {
    let fits = |row: &&Value| fields.iter().all(|(key, value)| row[key] == *value);
    let found: Vec<&Value> = rows.iter().filter(fits).collect();
    assert_eq!(found.len(), 1, "{fields:?}: {found:?}");
    found[0]["value"].as_f64().unwrap()
}

#[test]
fn a_report_holds_what_eval_prints() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    run(
        directory,
        &["quantize", "model", "--method", "rtn", "--type", "q4_0", "--no-eval", "--output", "q4.gguf"],
    );
    let arguments = ["eval", "q4.gguf", "--base", "model", "--text", "bundled:english", "--n-ctx", "128"];
    let output = run(directory, &[&arguments[..], &["--json", "--report", "out/report"]].concat());
    let json: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(listing(&directory.join("out/report")), REPORT);
    let rows = rows(&directory.join("out/report"));
    let number = |pointer: &str| json.pointer(pointer).unwrap().as_f64().unwrap();
    for (metric, pointer) in [
        ("perplexity", "/perplexity"),
        ("kl_divergence", "/kl_divergence/mean"),
        ("top1_agreement", "/top1_agreement"),
        ("tokens", "/tokens"),
    ] {
        let found = value(&rows, &[("model", "q4.gguf"), ("scope", "summary"), ("metric", metric)]);
        assert!((found / number(pointer) - 1.0).abs() < 1e-12, "{metric}: {found}");
    }
    let base = value(&rows, &[("model", "model"), ("scope", "summary"), ("metric", "perplexity")]);
    assert!((base / number("/base_perplexity") - 1.0).abs() < 1e-12);
    let p99 = value(&rows, &[("scope", "distribution"), ("item", "p99")]);
    assert!((p99 / number("/kl_divergence/p99") - 1.0).abs() < 1e-12);
    let bytes = value(&rows, &[("model", "q4.gguf"), ("scope", "summary"), ("metric", "bytes")]);
    assert_eq!(bytes, std::fs::metadata(directory.join("q4.gguf")).unwrap().len() as f64);
    // every scored token is in one bin, and the windows' means make the whole's
    let of = |scope: &str, metric: &str| -> Vec<f64> {
        let fits = |row: &&Value| row["scope"] == scope && row["metric"] == metric && row["base"] == "model";
        rows.iter().filter(fits).map(|row| row["value"].as_f64().unwrap()).collect()
    };
    assert_eq!(of("histogram", "tokens").iter().sum::<f64>(), number("/tokens"));
    let windows = of("window", "kl_divergence");
    assert_eq!(windows.len() as f64, number("/windows"));
    let mean = windows.iter().sum::<f64>() / windows.len() as f64;
    assert!((mean / number("/kl_divergence/mean") - 1.0).abs() < 1e-9, "{mean}");
    // so do the parts by length of context, by their tokens
    let (tokens, parts) = (of("position", "tokens"), of("position", "kl_divergence"));
    assert_eq!(tokens.iter().sum::<f64>(), number("/tokens"));
    let mean = tokens.iter().zip(&parts).map(|(n, kl)| n * kl).sum::<f64>() / number("/tokens");
    assert!((mean / number("/kl_divergence/mean") - 1.0).abs() < 1e-9, "{mean}");
    // and both models go on at the worst places
    let told = |row: &&Value| row["scope"] == "window" && row["text"].is_string();
    assert_eq!(rows.iter().filter(told).count(), 10);
    let page = std::fs::read_to_string(directory.join("out/report/report.html")).unwrap();
    assert!(page.contains("Where the model departs most") && page.contains("By length of context"));
    // all kinds of tensors make the bits a weight
    let (bytes, weights) = (of("kind", "bytes"), of("kind", "weights"));
    let bits = 8.0 * bytes.iter().sum::<f64>() / weights.iter().sum::<f64>();
    let told = value(&rows, &[("model", "q4.gguf"), ("scope", "summary"), ("metric", "bits_per_weight")]);
    assert!((bits / told - 1.0).abs() < 1e-12, "{bits} {told}");
    // the same again is the same but for its times
    let timeless = |rows: Vec<Value>| -> Vec<Value> {
        let timed = ["seconds", "tokens_per_second", "peak_memory_bytes"];
        rows.into_iter().filter(|row| !timed.iter().any(|metric| row["metric"] == *metric)).collect()
    };
    run(directory, &[&arguments[..], &["--json", "--report", "out/report"]].concat());
    assert_eq!(timeless(self::rows(&directory.join("out/report"))), timeless(rows));
    assert_eq!(listing(&directory.join("out")), ["report"]);
}

#[test]
fn a_quantized_models_report_has_its_tensors() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    let arguments =
        ["quantize", "model", "--method", "gptq", "--effort", "fast", "--samples", "4", "--seq-len", "64"];
    let more = [
        "--calibration",
        "bundled:english",
        "--no-eval",
        "--output",
        "q4.gguf",
        "--report",
        "report",
        "--json",
    ];
    let output = run(directory, &[&arguments[..], &more].concat());
    let json: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let rows = rows(&directory.join("report"));
    for tensor in json["tensors"].as_array().unwrap() {
        let name = tensor["name"].as_str().unwrap();
        let of = |metric| [("scope", "tensor"), ("item", name), ("metric", metric)];
        assert_eq!(value(&rows, &of("bytes")), tensor["bytes"].as_f64().unwrap());
        if let Some(error) = tensor.get("output_error") {
            let found = value(&rows, &of("output_error"));
            assert!((found - error["after"].as_f64().unwrap()).abs() < 1e-12, "{name}");
        }
    }
    let page = std::fs::read_to_string(directory.join("report/report.html")).unwrap();
    assert!(page.contains("<h1>q4.gguf</h1>") && page.contains("blk.0.attn_q.weight"));
    assert!(
        page.matches("<svg").count() == 1 + 7,
        "sizes and seven layers: {}",
        page.matches("<svg").count()
    );
}

#[test]
fn what_is_in_the_way_is_said_before_anything_is_done() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    let arguments =
        ["quantize", "model", "--method", "rtn", "--type", "q8_0", "--no-eval", "--output", "q8.gguf"];
    let output = slmc(directory, [&arguments[..], &["--report", "model"]].concat());
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(says(&stderr(&output), "not a report of slmc"), "{}", stderr(&output));
    assert_eq!(listing(directory), ["model"], "nothing was quantized");
    let output = slmc(directory, [&arguments[..], &["--report", "r", "--dry-run"]].concat());
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
}

fn gate_on_github(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_slmc"))
        .args(["gate", "q2.gguf", "--text", "bundled:english", "--n-ctx", "128"])
        .args(arguments)
        .current_dir(directory)
        .env("NO_COLOR", "1")
        .env("GITHUB_ACTIONS", "true")
        .env("GITHUB_STEP_SUMMARY", "summary.md")
        .output()
        .expect("slmc starts")
}

#[test]
fn a_regression_is_told_in_every_format() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    run(
        directory,
        &["quantize", "model", "--method", "rtn", "--type", "q2_k", "--no-eval", "--output", "q2.gguf"],
    );
    std::fs::write(directory.join("summary.md"), "before\n").unwrap();
    let outputs = ["--junit", "gate.xml", "--markdown", "summary.md", "--report", "report", "--json"];
    let limits = ["--base", "model", "--max-kl", "0.01", "--max-size", "20MB"];
    let output = gate_on_github(directory, &[&limits[..], &outputs].concat());
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let json: Value = serde_json::from_str(&stdout(&output)).expect("one object on standard output");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let annotations: Vec<&str> = errors.lines().filter(|line| line.starts_with("::")).collect();
    assert_eq!(annotations.len(), 1, "{errors}");
    assert!(
        annotations[0].starts_with("::error title=slmc gate%3A q2.gguf%3A regression::KL divergence "),
        "{errors}"
    );
    let junit = std::fs::read_to_string(directory.join("gate.xml")).unwrap();
    assert!(junit.contains("tests=\"2\" skipped=\"0\" failures=\"1\" errors=\"0\""), "{junit}");
    let summary = std::fs::read_to_string(directory.join("summary.md")).unwrap();
    assert!(summary.starts_with("before\n") && summary.contains("**regression**"), "{summary}");
    assert_eq!(listing(&directory.join("report")), REPORT);
    let rows = rows(&directory.join("report"));
    let kl = value(&rows, &[("scope", "check"), ("item", "max_kl"), ("metric", "kl_divergence")]);
    assert!((kl - json["checks"][0]["value"].as_f64().unwrap()).abs() < 1e-12);

    // a file that is no summary is replaced; sizes alone need no original
    std::fs::write(directory.join("comment.md"), "before\n").unwrap();
    let output =
        gate_on_github(directory, &["--max-size", "20kB", "--markdown", "comment.md", "--annotations=never"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(!stderr(&output).contains("::"), "{}", stderr(&output));
    let comment = std::fs::read_to_string(directory.join("comment.md")).unwrap();
    assert!(comment.starts_with("### slmc gate: q2.gguf\n"), "{comment}");
    assert!(comment.contains("| size, at most | **regression** | 19.53 KiB |"), "{comment}");

    // too few windows: an error, no failure
    let output = gate_on_github(
        directory,
        &["--base", "model", "--windows", "5", "--max-kl", "0.01", "--junit", "gate.xml"],
    );
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    let junit = std::fs::read_to_string(directory.join("gate.xml")).unwrap();
    assert!(junit.contains("failures=\"0\" errors=\"1\""), "{junit}");
    assert!(stderr(&output).contains("cannot decide"), "{}", stderr(&output));
}

#[test]
fn a_benchmarks_report_has_both_models_times() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    run(
        directory,
        &["quantize", "model", "--method", "rtn", "--type", "q4_0", "--no-eval", "--output", "q4.gguf"],
    );
    let amount =
        ["--prompt-tokens", "8", "--tokens", "4", "--repetitions", "2", "--json", "--report", "report"];
    let output = run(directory, &[&["bench", "q4.gguf", "--base", "model"][..], &amount].concat());
    let json: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let rows = rows(&directory.join("report"));
    for (model, pointer) in [("q4.gguf", ""), ("model", "/base")] {
        let of =
            |metric| [("model", model), ("scope", "latency"), ("item", "generation"), ("metric", metric)];
        let number = |field: &str| json.pointer(&format!("{pointer}/{field}")).unwrap().as_f64().unwrap();
        assert!((value(&rows, &of("latency_p50")) / number("token_seconds_p50") - 1.0).abs() < 1e-12);
        assert!((value(&rows, &of("latency_p95")) / number("token_seconds_p95") - 1.0).abs() < 1e-12);
    }
    let increase = value(&rows, &[("scope", "latency"), ("metric", "latency_increase")]);
    assert!((increase - json["latency_increase"]["value"].as_f64().unwrap()).abs() < 1e-12);
    assert_eq!(value(&rows, &[("scope", "run"), ("metric", "prompt_tokens")]), 8.0);
    let page = std::fs::read_to_string(directory.join("report/report.html")).unwrap();
    assert!(page.contains("Speed and memory") && !page.contains("Perplexity"), "{page}");
}

#[test]
fn runs_stand_side_by_side() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    for ty in ["q8_0", "q4_0"] {
        let output = format!("{ty}.gguf");
        run(
            directory,
            &["quantize", "model", "--method", "rtn", "--no-eval", "--type", ty, "--output", &output],
        );
        for (n_ctx, name) in [("128", ty.to_owned()), ("64", format!("{ty}-64"))] {
            let arguments =
                ["eval", &output, "--base", "model", "--text", "bundled:english", "--report", &name];
            run(directory, &[&arguments[..], &["--n-ctx", n_ctx]].concat());
        }
    }
    let output = run(
        directory,
        &["compare", "q8_0", "q4_0/metrics.parquet", "--markdown", "c.md", "--html", "c.html"],
    );
    let text = stdout(&output);
    let line =
        |label: &str| text.lines().find(|line| line.trim_start().starts_with(label)).unwrap().to_owned();
    assert!(line("KL divergence").contains('*') && line("size").trim_end().ends_with('*'), "{text}");
    assert!(says(&text, "model (original) q8_0.gguf q4_0.gguf"), "{text}");
    let table = std::fs::read_to_string(directory.join("c.md")).unwrap();
    let kl = table.lines().find(|line| line.starts_with("| KL divergence |")).unwrap();
    assert!(kl.split('|').nth(3).unwrap().contains("**"), "eight bits lose least: {kl}");
    assert!(
        std::fs::read_to_string(directory.join("c.html"))
            .unwrap()
            .contains("<h1>model (original), q8_0.gguf")
    );

    let output = run(directory, &["compare", "q8_0/metrics.json", "q4_0-64", "--json"]);
    let json: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let settings: Vec<&str> =
        json["differences"].as_array().unwrap().iter().map(|d| d["setting"].as_str().unwrap()).collect();
    assert_eq!(settings, ["n_ctx", "stride", "windows"]);
    let output = run(directory, &["compare", "q8_0", "q4_0-64"]);
    assert!(says(&stdout(&output), "KL divergence (not comparable)"), "{}", stdout(&output));
    assert!(says(&stdout(&output), "The runs differ in tokens a window"), "{}", stdout(&output));

    let output = slmc(directory, ["compare", "model"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(says(&stderr(&output), "metrics.json"), "{}", stderr(&output));
}
