//! `slmc bench` and the gate's limit on latency: what is counted, and what is refused. No time is asserted.

mod common;

use std::path::Path;

use common::{copy_tiny, says, slmc, stderr, stdout};
use serde_json::Value;

fn quantized(directory: &Path) {
    copy_tiny(&directory.join("model"));
    let arguments =
        ["quantize", "model", "--method", "rtn", "--no-eval", "--type", "q4_0", "--output", "q.gguf"];
    let output = slmc(directory, arguments);
    assert!(output.status.success(), "{}", stderr(&output));
}

fn number(value: &Value, pointer: &str) -> f64 {
    value.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer} in {value}"))
}

#[test]
fn figures_of_both_models_are_there_and_fit_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    quantized(directory);
    let amount = ["--prompt-tokens", "20", "--tokens", "7", "--repetitions", "3", "--warmup", "1"];
    let arguments = [&["bench", "q.gguf", "--base", "model"], &amount[..]].concat();
    let output = slmc(directory, [&arguments[..], &["--json", "--threads", "2"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    for (field, value) in [
        ("prompt_tokens", 20.0),
        ("generated_tokens", 7.0),
        ("repetitions", 3.0),
        ("warmup", 1.0),
        ("threads", 2.0),
    ] {
        assert_eq!(number(&report, &format!("/{field}")), value, "{field}");
    }
    assert_eq!((&report["engine"], &report["device"]), (&"slmc".into(), &"cpu".into()));
    assert_eq!(number(&report, "/bytes"), std::fs::metadata(directory.join("q.gguf")).unwrap().len() as f64);
    let weights = std::fs::metadata(directory.join("model/model.safetensors")).unwrap().len() as f64;
    assert_eq!(number(&report, "/base/bytes"), weights);
    for model in ["", "/base"] {
        let at = |field: &str| number(&report, &format!("{model}/{field}"));
        assert!(at("load_seconds") > 0.0);
        assert!(at("peak_memory_bytes") > 1e6);
        assert!(at("token_seconds_p50") <= at("token_seconds_p95"));
        for spread in
            ["first_token_seconds", "token_seconds", "prompt_tokens_per_second", "tokens_per_second"]
        {
            let [min, median, max] = ["min", "median", "max"].map(|field| at(&format!("{spread}/{field}")));
            assert!(0.0 < min && min <= median && median <= max, "{model}/{spread}");
            assert!(at(&format!("{spread}/stddev")) <= max - min);
        }
        // tokens of the prompt over the same times
        let product = at("first_token_seconds/median") * at("prompt_tokens_per_second/median");
        assert!((product - 20.0).abs() < 1e-6, "{product}");
    }
    let [low, value, high] = ["interval/low", "value", "interval/high"]
        .map(|field| number(&report, &format!("/latency_increase/{field}")));
    assert!(low <= value && value <= high);

    let output = slmc(directory, arguments);
    for part in ["peak memory", "first token", "p95 of all tokens", "tokens/s", "ratio", "pair by pair"] {
        assert!(says(&stdout(&output), part), "{part}: {}", stdout(&output));
    }
}

#[test]
fn a_model_alone_has_no_ratio() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    let amount = ["--prompt-tokens", "1", "--tokens", "2", "--repetitions", "1", "--warmup", "0"];
    let output = slmc(directory, [&["bench", "model", "--json"], &amount[..]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert!(report.get("base").is_none() && report.get("latency_increase").is_none());
    assert_eq!(number(&report, "/tokens_per_second/stddev"), 0.0);
}

#[test]
fn what_cannot_be_timed_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    // one matrix of NaN: found by the process that loads the model, named here
    copy_tiny(&directory.join("bad"));
    let path = directory.join("bad/model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.len();
    bytes[end - 1000..].fill(0xff);
    std::fs::write(&path, bytes).unwrap();
    for (arguments, code, message) in [
        (&["model", "--engine", "llama-cpp"][..], 2, "llama.cpp reads GGUF files only; `slmc convert"),
        (&["model", "--engine", "vllm"], 2, "expected slmc or llama-cpp"),
        (&["model", "--tokens", "1"], 2, "--tokens"),
        (&["model", "--prompt-tokens", "1000"], 1, "1064 tokens are more than the model's context of 1024"),
        (&["missing"], 1, "no such file or directory"),
        (&["bad"], 1, "bad"),
    ] {
        let output = slmc(directory, [&["bench"], arguments].concat());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        assert!(says(&stderr(&output), message), "{arguments:?}: {}", stderr(&output));
    }
}

#[cfg(not(feature = "llama-cpp"))]
#[test]
fn without_llama_cpp_it_says_how_to_get_it() {
    let directory = tempfile::tempdir().unwrap();
    quantized(directory.path());
    let output = slmc(directory.path(), ["bench", "q.gguf", "--engine", "llama-cpp"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(says(&stderr(&output), "cargo install --path cli --features llama-cpp"), "{}", stderr(&output));
}

#[cfg(feature = "llama-cpp")]
#[test]
fn llama_cpp_runs_what_slmc_writes() {
    let directory = tempfile::tempdir().unwrap();
    quantized(directory.path());
    let amount = ["--prompt-tokens", "20", "--tokens", "7", "--repetitions", "2"];
    let output = slmc(
        directory.path(),
        [&["bench", "q.gguf", "--base", "q.gguf", "--engine", "llama-cpp", "--json"], &amount[..]].concat(),
    );
    assert!(output.status.success(), "{}", stderr(&output));
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(report["engine"], "llama-cpp");
    assert!(report.get("device").is_none());
    for model in ["", "/base"] {
        assert!(number(&report, &format!("{model}/tokens_per_second/min")) > 0.0);
        assert!(number(&report, &format!("{model}/token_seconds_p50")) > 0.0);
    }
}

/// Far from any time this machine could make: a limit nothing breaks, and too few repetitions to tell.
#[test]
fn the_gate_holds_latency_to_its_limit() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    quantized(directory);
    let gate =
        |more: &[&str]| slmc(directory, [&["gate", "q.gguf", "--base", "model", "--json"], more].concat());
    let output = gate(&["--max-latency-increase", "100000%", "--latency-repetitions", "3"]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let check = &report["checks"][0];
    assert_eq!((&check["metric"], &check["verdict"]), (&"latency_increase".into(), &"passed".into()));
    assert!(number(check, "/interval/low") <= number(check, "/value"));
    assert!(report.get("evaluation").is_none());
    let output = gate(&["--max-latency-increase", "100000%", "--latency-repetitions", "2"]);
    assert_eq!(output.status.code(), Some(4), "{}{}", stdout(&output), stderr(&output));
    let settings = "model = 'model'\n[gate]\nmodel = 'q.gguf'\nmax_latency_increase = '1000x'\n";
    std::fs::write(directory.join("slmc.toml"), settings).unwrap();
    let output = slmc(directory, ["gate"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(says(&stderr(&output), "--max-latency-increase 1000x: expected a share"), "{}", stderr(&output));
}
