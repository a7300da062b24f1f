//! `slmc quantize --group-size`: what it writes, what it loses, what it refuses.

mod common;

use std::path::Path;

use common::{listing, says, slmc, stderr, stdout, tiny};
use serde_json::Value;
use slmc_pipeline::Precision;

/// Runs a command that must succeed and returns its JSON object.
fn json(directory: &Path, arguments: &[&str]) -> Value {
    let output = slmc(directory, [arguments, &["--json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    serde_json::from_str(&stdout(&output)).expect("one JSON object")
}

fn number(value: &Value, pointer: &str) -> f64 {
    let found = value.pointer(pointer).and_then(Value::as_f64);
    found.unwrap_or_else(|| panic!("no number {pointer}"))
}

/// Quantizes the bundled model with few calibration samples.
fn quantize(directory: &Path, output: &str, arguments: &[&str]) -> Value {
    let model = tiny();
    let common =
        ["quantize", model.to_str().unwrap(), "--output", output, "--samples", "8", "--seq-len", "64"];
    json(directory, &[&common, arguments].concat())
}

#[test]
fn every_method_writes_a_checkpoint_that_is_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let plan = quantize(path, "plan", &["--bits", "4", "--group-size", "64", "--dry-run"]);
    assert!(listing(path).is_empty());
    let mut losses = Vec::new();
    for method in ["rtn", "imatrix", "gptq", "awq", "awq+gptq"] {
        let arguments =
            ["--method", method, "--bits", "4", "--group-size", "64", "--text", "bundled:english"];
        let report = quantize(path, method, &arguments);
        assert_eq!((&report["grid"], &report["output"]), (&"int4_g64".into(), &method.into()));
        let weights = std::fs::metadata(path.join(method).join("model.safetensors")).unwrap().len();
        assert_eq!(number(&report, "/bytes"), weights as f64);
        assert_eq!(number(&plan, "/output_bytes"), weights as f64);
        assert_eq!(number(&plan, "/plan/bits_per_weight"), number(&report, "/bits_per_weight"));
        for tensor in report["tensors"].as_array().unwrap() {
            let (name, error) = (tensor["name"].as_str().unwrap(), number(tensor, "/relative_error"));
            if name.ends_with("_proj.weight") {
                assert_eq!(tensor["type"], "int4_g64", "{name}");
                assert!((0.01..0.3).contains(&error), "{method} {name}: {error}");
            } else {
                assert_eq!((tensor["type"].as_str(), error), (Some("f16"), 0.0), "{name}");
            }
        }
        // the directory by itself: same figure, and its tokenizer with it
        let model = tiny();
        let base = model.to_str().unwrap();
        let again = json(path, &["eval", method, "--base", base, "--text", "bundled:english"]);
        let kl = number(&again, "/kl_divergence/mean");
        assert_eq!(kl, number(&report, "/evaluation/kl_divergence/mean"));
        losses.push(kl);
        let inspected = json(path, &["inspect", method]);
        assert!((number(&inspected, "/bits_per_weight") - number(&report, "/bits_per_weight")).abs() < 1e-9);
        assert!(inspected["recipe"].as_str().unwrap().contains(method));
    }
    println!("{losses:?}");
    assert!(losses[2] < 0.7 * losses[0], "gptq loses {}, rtn {}", losses[2], losses[0]);
}

#[test]
fn every_grid_and_the_order_work_and_threads_do_not_matter() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let mut before = f64::INFINITY;
    for (bits, group) in [("2", "32"), ("3", "channel"), ("4", "128"), ("8", "64")] {
        for more in [&["--asymmetric"][..], &["--act-order"]] {
            let arguments = ["--method", "gptq", "--bits", bits, "--group-size", group];
            let one = quantize(path, "one", &[&arguments, more, &["--no-eval", "--threads", "1"]].concat());
            let two = quantize(path, "two", &[&arguments, more, &["--no-eval", "--threads", "3"]].concat());
            assert_eq!(one["tensors"], two["tensors"]);
            for file in listing(&path.join("one")) {
                let [a, b] = ["one", "two"].map(|d| std::fs::read(path.join(d).join(&file)).unwrap());
                assert!(a == b, "{bits} bits, {group}, {more:?}: {file} differs");
            }
        }
        let model = tiny();
        let arguments = ["eval", "one", "--base", model.to_str().unwrap(), "--text", "bundled:english"];
        let kl = number(&json(path, &arguments), "/kl_divergence/mean");
        println!("{bits} bits, {group}: {kl}");
        assert!(kl < before, "{bits} bits lose {kl}, fewer lost {before}");
        before = kl;
    }
}

#[test]
fn kept_layers_stay_as_they_are_and_are_named_in_the_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = ["--method", "rtn", "--bits", "4", "--group-size", "32", "--no-eval"];
    let keep = ["--keep", "blk\\.0\\.attn_v", "--keep", "layers.1.mlp.down_proj"];
    let report = quantize(directory.path(), "out", &[&arguments[..], &keep].concat());
    let kept: Vec<_> = report["tensors"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|t| t["name"].as_str().unwrap().contains("_proj") && t["type"] == "f16")
        .map(|t| t["name"].as_str().unwrap().trim_end_matches(".weight").to_owned())
        .collect();
    assert_eq!(kept, ["model.layers.0.self_attn.v_proj", "model.layers.1.mlp.down_proj"]);
    let config = std::fs::read(directory.path().join("out/config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    let ignored = [kept, vec!["lm_head".to_owned()]].concat();
    assert_eq!(config["quantization_config"]["ignore"], serde_json::json!(ignored));
}

#[test]
fn wrong_usage_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let model = tiny();
    let refused = |code, parts: &[&str], arguments: &[&str]| {
        let common = ["quantize", model.to_str().unwrap(), "--method", "rtn", "--no-eval", "--output", "out"];
        let output = slmc(directory.path(), [&common, arguments].concat());
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {message}");
        for part in parts {
            assert!(says(&message, part), "{arguments:?}: {message}");
        }
    };
    let group = ["--group-size", "64"];
    let with = |more: &[&'static str]| [&group[..], more].concat();
    refused(2, &["--type and --group-size exclude each other", "GGUF's"], &with(&["--type", "q4_k_m"]));
    refused(2, &["--tensor-type and --group-size", "Leave one"], &with(&["--tensor-type", "attn_v=q6_k"]));
    refused(2, &["--imatrix and --group-size", "--calibration"], &with(&["--imatrix", "a.gguf"]));
    refused(2, &["--act-order means nothing to rtn", "gptq"], &with(&["--act-order"]));
    refused(2, &["--precision f16", "f32 or bf16"], &with(&["--precision", "f16"]));
    refused(
        2,
        &["bf16 is for the device cpu, not wgpu"],
        &with(&["--precision", "bf16", "--device", "wgpu"]),
    );
    refused(2, &["no integer grid has 5 bits"], &with(&["--bits", "5"]));
    refused(2, &["groups of 48 columns", "channel"], &["--group-size", "48"]);
    refused(2, &["expected a number of columns or `channel`"], &["--group-size", "rows"]);
    refused(2, &["--group-size"], &["--asymmetric"]);
    refused(2, &["--keep `nothing` matches no tensor"], &with(&["--keep", "nothing"]));
    std::fs::create_dir(directory.path().join("out")).unwrap();
    std::fs::write(directory.path().join("out/notes.txt"), "mine").unwrap();
    refused(1, &["is not empty"], &group);
    assert_eq!(listing(&directory.path().join("out")), ["notes.txt"]);
}

#[test]
fn an_output_is_replaced_and_is_no_input_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    for bits in ["4", "8"] {
        quantize(path, "out", &["--method", "rtn", "--bits", bits, "--group-size", "32", "--no-eval"]);
    }
    assert_eq!(listing(path), ["out"]);
    for more in [&["--group-size", "32"][..], &[]] {
        let arguments = ["quantize", "out", "--method", "rtn", "--output", "again", "--no-eval"];
        let output = slmc(path, [&arguments, more].concat());
        assert_eq!(output.status.code(), Some(1));
        assert!(says(&stderr(&output), "its weights are quantized already"), "{}", stderr(&output));
    }
}

/// bfloat16, where the processor has it, is what gptq takes by itself; the recipe says so, and what is stored is hardly worse than
/// after f32.
#[test]
fn the_precision_of_calibration_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let common = ["--method", "gptq", "--group-size", "32"];
    let make = |name: &str, more: &[&str]| {
        let outcome = quantize(path, name, &[&common[..], more].concat());
        let kl = number(&outcome, "/evaluation/kl_divergence/mean");
        let config = std::fs::read_to_string(path.join(name).join("config.json")).unwrap();
        (
            kl,
            config.contains("\"precision\":\"bf16\"") || config.contains("\"precision\": \"bf16\""),
            std::fs::read(path.join(name).join("model.safetensors")).unwrap(),
        )
    };
    let (full, told, plain) = make("f32", &["--precision", "f32"]);
    assert!(!told && full > 0.0);
    let (kl, told, chosen) = make("chosen", &[]);
    assert_eq!((told, chosen != plain), (Precision::Bf16.is_native(), Precision::Bf16.is_native()));
    assert!((kl / full - 1.0).abs() < 0.1, "{kl} {full}");
    let (_, told, best) = make("best", &["--effort", "best"]);
    assert!(!told && best != chosen);
}
