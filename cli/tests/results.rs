//! What the commands give on the bundled model: the figures, the same on every device and at any thread count.

mod common;

use std::path::Path;

use common::{listing, slmc, stderr, stdout, tiny};

/// Runs a command that must succeed and returns its JSON object.
fn json(directory: &Path, arguments: &[&str]) -> serde_json::Value {
    let output = slmc(directory, [arguments, &["--json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    serde_json::from_str(&stdout(&output)).expect("one JSON object")
}

fn number(value: &serde_json::Value, pointer: &str) -> f64 {
    value
        .pointer(pointer)
        .and_then(serde_json::Value::as_f64)
        .unwrap_or_else(|| panic!("no number {pointer}"))
}

/// Quantizes with few calibration samples; returns the file's bytes and the report.
fn quantize(directory: &Path, name: &str, arguments: &[&str]) -> (Vec<u8>, serde_json::Value) {
    let model = tiny();
    let common = ["quantize", model.to_str().unwrap(), "--output", name, "--samples", "8", "--seq-len", "64"];
    let report = json(directory, &[&common, arguments].concat());
    let bytes = std::fs::read(directory.join(name)).unwrap();
    assert_eq!(number(&report, "/bytes"), bytes.len() as f64);
    (bytes, report)
}

#[test]
fn quantize_reports_what_it_wrote_and_lost() {
    let directory = tempfile::tempdir().unwrap();
    let (bytes, report) = quantize(
        directory.path(),
        "a.gguf",
        &["--bits", "4", "--method", "awq", "--text", "bundled:english"],
    );
    assert_eq!(listing(directory.path()), ["a.gguf"]);
    assert!(bytes.starts_with(b"GGUF"));
    assert_eq!((&report["output"], &report["method"]), (&"a.gguf".into(), &"awq".into()));
    let tensors = report["tensors"].as_array().unwrap();
    let stored: f64 = tensors.iter().map(|t| number(t, "/bytes")).sum();
    assert!(stored < bytes.len() as f64);
    let weights: f64 = tensors
        .iter()
        .map(|t| t["shape"].as_array().unwrap().iter().map(|d| d.as_f64().unwrap()).product::<f64>())
        .sum();
    assert!((number(&report, "/bits_per_weight") - 8.0 * stored / weights).abs() < 1e-9);
    let embedding = tensors.iter().find(|t| t["name"] == "token_embd.weight").unwrap();
    assert_eq!(embedding["type"], "q6_k");
    assert!((0.001..0.03).contains(&number(embedding, "/relative_error")));
    let (kl, agreement) =
        (number(&report, "/evaluation/kl_divergence/mean"), number(&report, "/evaluation/top1_agreement"));
    assert!(kl > 1e-4 && kl < 0.02, "{kl}");
    assert!(agreement > 0.85 && agreement < 1.0, "{agreement}");

    // The same figures from the file that was written.
    let model = tiny();
    let arguments = ["eval", "a.gguf", "--base", model.to_str().unwrap(), "--text", "bundled:english"];
    let again = json(directory.path(), &arguments);
    assert_eq!(again["kl_divergence"], report["evaluation"]["kl_divergence"]);
    assert_eq!(again["perplexity"], report["evaluation"]["perplexity"]);
}

#[test]
fn the_bytes_do_not_depend_on_the_number_of_threads() {
    let directory = tempfile::tempdir().unwrap();
    for method in ["rtn", "awq", "gptq"] {
        let file = |threads: &str| {
            let arguments = ["--method", method, "--bits", "4", "--no-eval", "--threads", threads];
            quantize(directory.path(), &format!("{method}-{threads}.gguf"), &arguments).0
        };
        let one = file("1");
        assert!(one == file("2") && one == file("3"), "{method}");
    }
}

#[test]
fn methods_keep_their_order() {
    let directory = tempfile::tempdir().unwrap();
    let model = tiny();
    let kl = |method: &str| {
        let model = model.to_str().unwrap();
        let text = ["--text", "bundled:english", "--calibration", "bundled:english"];
        let options = ["quantize", model, "--method", method, "--type", "q4_0", "--output", "out.gguf"];
        let report = json(directory.path(), &[&options[..], &text[..]].concat());
        number(&report, "/evaluation/kl_divergence/mean")
    };
    let (rtn, awq, gptq) = (kl("rtn"), kl("awq"), kl("gptq"));
    assert!(awq < rtn && gptq < 0.5 * rtn, "rtn {rtn}, awq {awq}, gptq {gptq}");
}

#[test]
fn a_dry_run_knows_the_exact_size_and_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let model = tiny();
    let arguments = ["quantize", model.to_str().unwrap(), "--method", "rtn", "--type", "q3_k_m"];
    let plan = json(directory.path(), &[&arguments[..], &["--dry-run"]].concat());
    assert_eq!(listing(directory.path()), [""; 0]);
    let report = json(directory.path(), &[&arguments[..], &["--no-eval", "--output", "x.gguf"]].concat());
    assert_eq!(number(&plan, "/output_bytes"), number(&report, "/bytes"));
}

#[test]
fn every_device_gives_the_same_perplexity() {
    let directory = tempfile::tempdir().unwrap();
    let model = tiny();
    let perplexity = |device: &str| {
        let arguments = ["eval", model.to_str().unwrap(), "--text", "bundled:english", "--windows", "2"];
        let output = slmc(directory.path(), [&arguments[..], &["--device", device, "--json"]].concat());
        let message = stderr(&output);
        if device == "wgpu" && !output.status.success() && message.contains("adapter") {
            let required = std::env::var_os("SLMC_REQUIRE_WGPU").is_some_and(|value| value == "1");
            assert!(!required, "SLMC_REQUIRE_WGPU=1, but {message}");
            return None;
        }
        assert!(output.status.success(), "{device}: {message}");
        Some(number(&serde_json::from_str(&stdout(&output)).unwrap(), "/perplexity"))
    };
    let cpu = perplexity("cpu").unwrap();
    for device in ["ndarray", "wgpu"] {
        match perplexity(device) {
            Some(found) => assert!((found / cpu - 1.0).abs() < 1e-3, "{device}: {found}, cpu: {cpu}"),
            None => {
                use std::io::Write;
                // Not `eprintln`, which the test harness keeps to itself.
                let _ = writeln!(std::io::stderr(), "\n*** SKIPPED: {device}, as no adapter was found ***\n");
            }
        }
    }
}

#[test]
fn an_empty_directory_is_told_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let output = slmc(directory.path(), ["quantize"]);
    assert_eq!(output.status.code(), Some(2));
    let message = stderr(&output);
    assert!(message.contains("slmc quantize path/to") && message.contains("slmc.toml"), "{message}");
}
