//! Types by measured cost: targets are met, pins stay, and nothing depends on the number of threads.

mod common;

use std::path::Path;

use common::{says, slmc, stderr, stdout, tiny};
use serde_json::Value;

const CALIBRATION: [&str; 4] = ["--samples", "12", "--seq-len", "64"];

fn quantize(directory: &Path, name: &str, arguments: &[&str]) -> Result<(Vec<u8>, Value), String> {
    let model = tiny();
    let common = ["quantize", model.to_str().unwrap(), "--output", name, "--json", "--no-eval"];
    let output = slmc(directory, [&common, &CALIBRATION[..], arguments].concat());
    if !output.status.success() {
        return Err(stderr(&output));
    }
    let bytes = std::fs::read(directory.join(name)).unwrap();
    Ok((bytes, serde_json::from_str(&stdout(&output)).expect("one JSON object")))
}

#[test]
fn a_file_size_is_kept_and_used_and_pins_stay() {
    let directory = tempfile::tempdir().unwrap();
    let options = ["--method", "imatrix", "--target-size", "1.6MiB", "--tensor-type", "blk.1.attn_q=q8_0"];
    let target = (1.6 * 1024.0 * 1024.0) as usize;
    let (file, report) = quantize(directory.path(), "a.gguf", &options).unwrap();
    assert!(file.len() <= target && file.len() > target * 97 / 100, "{} of {target}", file.len());
    let predicted = report.pointer("/prediction/kl_divergence").and_then(Value::as_f64).unwrap();
    assert!(predicted > 0.0 && predicted < 1.0, "{predicted}");
    let tensors = report["tensors"].as_array().unwrap();
    let ty = |name: &str| &tensors.iter().find(|t| t["name"] == name).unwrap()["type"];
    assert_eq!(ty("blk.1.attn_q.weight"), "q8_0");
    let (again, _) =
        quantize(directory.path(), "b.gguf", &[&options[..], &["--threads", "1"]].concat()).unwrap();
    assert!(file == again, "one thread and several write different files");
}

#[test]
fn what_is_predicted_is_near_what_is_measured() {
    let directory = tempfile::tempdir().unwrap();
    let model = tiny();
    for (method, bits) in [("imatrix", "3.5"), ("gptq", "4.5")] {
        let text = ["--calibration", "bundled:english", "--text", "bundled:english"];
        let size = ["--samples", "64", "--seq-len", "256", "--target-bpw", bits, "--method", method];
        let all = ["quantize", model.to_str().unwrap(), "--output", "a.gguf", "--json"];
        let output = slmc(directory.path(), [&all[..], &text, &size].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
        let number = |pointer: &str| report.pointer(pointer).and_then(Value::as_f64).unwrap();
        let (predicted, measured) =
            (number("/prediction/kl_divergence"), number("/evaluation/kl_divergence/mean"));
        println!("{method}, {bits} bits a weight: {predicted:.5} predicted, {measured:.5} measured");
        assert!((predicted / measured - 1.0).abs() < 0.25, "{method}: {predicted} for {measured}");
        assert!((number("/bits_per_weight") - bits.parse::<f64>().unwrap()).abs() < 0.01);
    }
}

/// Down matrices of 480 columns, which no super-block divides: they alone have a choice, in no more bytes than without one.
#[test]
fn shapes_that_do_not_fit_get_measured_types() {
    let directory = tempfile::tempdir().unwrap();
    let model = tiny();
    let cut = [
        "prune",
        model.to_str().unwrap(),
        "--structured",
        "--channels",
        "480",
        "--output",
        "cut",
        "--no-eval",
    ];
    let output = slmc(directory.path(), [&cut[..], &CALIBRATION].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let plan = |more: &[&str]| {
        let common = ["quantize", "cut", "--method", "imatrix", "--type", "q4_k_m", "--dry-run", "--json"];
        let output = slmc(directory.path(), [&common[..], &CALIBRATION, more].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_str::<Value>(&stdout(&output)).unwrap()["plan"].take()
    };
    let (mix, measured) = (plan(&[]), plan(&["--fallback", "measured"]));
    assert_eq!(measured["mix"], "q4_k_m");
    assert!(measured["total_bytes"].as_u64().unwrap() <= mix["total_bytes"].as_u64().unwrap());
    let tensors = |plan: &Value| plan["tensors"].as_array().unwrap().clone();
    let mut chosen = 0;
    for (before, after) in tensors(&mix).iter().zip(&tensors(&measured)) {
        let is_down = before["name"].as_str().unwrap().contains("ffn_down");
        assert_eq!(!before["fallback"].is_null(), is_down, "{before}");
        assert_eq!(after["reason"]["kind"] == "measured_cost", is_down, "{after}");
        if is_down {
            chosen += 1;
        } else {
            assert_eq!((&before["type"], &before["reason"]), (&after["type"], &after["reason"]));
        }
    }
    assert_eq!(chosen, 4);
    let output = slmc(directory.path(), ["quantize", "cut", "--fallback", "best"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn what_cannot_be_reached_is_an_error_that_says_what_can() {
    let directory = tempfile::tempdir().unwrap();
    let error =
        quantize(directory.path(), "a.gguf", &["--method", "imatrix", "--target-bpw", "0.5"]).unwrap_err();
    assert!(says(&error, "the least that can be reached is"), "{error}");
    assert!(common::listing(directory.path()).is_empty());
    let error = quantize(directory.path(), "a.gguf", &["--target-bpw", "4", "--bits", "4"]).unwrap_err();
    assert!(says(&error, "cannot be used with"), "{error}");
}
