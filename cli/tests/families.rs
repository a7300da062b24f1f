//! Every family through every command: rounding, pruning, cutting, training, and back.

mod common;

// numbers for random weights
#[path = "../../crates/model/tests/decoder/forward.rs"]
mod forward;
#[path = "../../tests/tests/families/models.rs"]
mod models;

use std::path::Path;

use common::{says, slmc, stderr, stdout, tiny};
use models::Family;
use serde_json::{Value, json};
use slmc_checkpoint::Checkpoint;

/// Runs a command that prints JSON.
fn run(directory: &Path, first: &[&str], more: &[&str]) -> Value {
    let output = slmc(directory, [first, more].concat());
    assert!(output.status.success(), "{more:?}: {}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

const CALIBRATION: [&str; 9] = [
    "--calibration",
    "bundled:english",
    "--samples",
    "64",
    "--seq-len",
    "64",
    "--no-eval",
    "--json",
    "--output",
];

/// Mean KL divergence from the model. What random weights do is noise to any method: it takes text for a difference to show.
fn divergence(directory: &Path, what: &str) -> f64 {
    let first = ["eval", what, "--base", "model", "--text", "bundled:english", "--n-ctx", "64"];
    let report = run(directory, &first, &["--windows", "48", "--worst", "0", "--json"]);
    report["kl_divergence"]["mean"].as_f64().unwrap()
}

fn write(directory: &Path, family: Family) {
    let tokenizer = serde_json::from_slice(&std::fs::read(tiny().join("tokenizer.json")).unwrap()).unwrap();
    family.write(&directory.join("model"), &tokenizer, &json!({"eos_token": "<|endoftext|>"}));
}

fn family(family: Family) {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    write(directory, family);
    let made = |command: &str, output: &str, more: &[&str]| {
        let first = [&[command, "model"], &CALIBRATION[..], &[output]].concat();
        run(directory, &first, more);
        let lost = divergence(directory, output);
        println!("{family:?}, {output}: {lost:.5}");
        lost
    };
    // GGUF: a file in full precision is the model, but for half-precision keys and values
    let whole = made("quantize", "whole.gguf", &["--method", "rtn", "--type", "f32"]);
    assert!(whole < 1e-4, "{family:?}: {whole}");
    let rounded = |method: &str| {
        let more = ["--method", method, "--type", "q4_0"];
        made("quantize", &format!("{method}.gguf"), &more)
    };
    let (rtn, awq, gptq) = (rounded("rtn"), rounded("awq"), rounded("gptq"));
    assert!(awq < rtn && gptq < 0.9 * rtn, "{family:?}: rtn {rtn}, awq {awq}, gptq {gptq}");
    // integers in a checkpoint of the family's own layout
    let integers = |method: &str| {
        let more = ["--method", method, "--bits", "4", "--group-size", "32"];
        made("quantize", &format!("{method}-integers"), &more)
    };
    let (rtn, awq, gptq) = (integers("rtn"), integers("awq"), integers("gptq"));
    assert!(awq < 1.05 * rtn && gptq < 0.9 * rtn, "{family:?}: rtn {rtn}, awq {awq}, gptq {gptq}");
    // pruning
    let sparse = |method: &str| made("prune", method, &["--method", method, "--sparsity", "0.5"]);
    let (magnitude, sparsegpt) = (sparse("magnitude"), sparse("sparsegpt"));
    assert!(sparsegpt < 0.9 * magnitude, "{family:?}: magnitude {magnitude}, sparsegpt {sparsegpt}");
    let cut = |name: &str, more: &[&str]| {
        made("prune", name, &[&["--structured", "--channels", "384"], more].concat())
    };
    let (lot, cut) = (cut("lot", &["--importance", "random", "--no-solve"]), cut("cut", &[]));
    assert!(cut < lot, "{family:?}: {cut}, by lot {lot}");
    // training
    let training = ["distill", "--teacher", "model", "--student", "cut", "--text", "bundled:english"];
    let steps = ["--steps", "16", "--seq-len", "64", "--batch-size", "8", "--evaluate-every", "8"];
    let aim = ["--alpha", "0", "--temperature", "1", "--learning-rate", "1e-4"];
    let more = ["--output", "healed", "--json"];
    let report = run(directory, &[&training[..], &steps, &aim].concat(), &more);
    let loss = |at: &str| report[at]["loss"].as_f64().unwrap();
    assert!(loss("best") < loss("start"), "{family:?}: {report}");
    let healed = divergence(directory, "healed");
    assert!(healed < cut, "{family:?}: {healed}, {cut} before");
    // what is written has the tensors that it was made from
    let names = |of: &str| -> Vec<String> {
        let checkpoint = Checkpoint::open(&directory.join(of)).unwrap();
        let mut names: Vec<_> = checkpoint.tensors().map(|tensor| tensor.name.clone()).collect();
        names.sort();
        names
    };
    assert_eq!(names("healed"), names("model"), "{family:?}");
    assert_eq!(names("sparsegpt"), names("model"), "{family:?}");
}

macro_rules! families {
    ($($name:ident: $family:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            family(Family::$family);
        })*
    };
}

families! {
    ministral: Ministral,
    qwen3: Qwen3,
    phi3: Phi3,
    phi4_mini: Phi4Mini,
    gemma2: Gemma2,
    gemma3: Gemma3,
    smollm3: SmolLm3,
    granite: Granite,
    olmo2: Olmo2,
    exaone4: Exaone4,
}

/// Of a family with fused matrices one adapter stands beside each, alone or merged.
#[test]
fn adapters_beside_fused_matrices_heal() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    write(directory, Family::Phi3);
    let sparse = ["prune", "model", "--method", "magnitude", "--sparsity", "0.5", "--no-eval", "--json"];
    run(directory, &sparse, &["--output", "sparse"]);
    let training = ["distill", "--teacher", "model", "--student", "sparse", "--text", "bundled:english"];
    let steps = ["--steps", "32", "--seq-len", "64", "--batch-size", "8", "--evaluate-every", "8"];
    let aim = ["--alpha", "0", "--temperature", "1", "--learning-rate", "3e-3", "--lora-rank", "8"];
    let first = [&training[..], &steps, &aim, &["--json"]].concat();
    let alone = run(directory, &first, &["--output", "adapters"]);
    let merged = run(directory, &first, &["--output", "merged", "--merge"]);
    assert_eq!(
        (&alone["best"], &alone["trained_parameters"]),
        (&merged["best"], &merged["trained_parameters"])
    );
    let (before, after) = (divergence(directory, "sparse"), divergence(directory, "merged"));
    assert!(after < 0.95 * before, "{after}, {before} before");
    let config = std::fs::read(directory.join("adapters/adapter_config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["target_modules"], json!(["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]));
    let output = slmc(directory, [&first[..], &["--output", "none", "--lora-targets", "q"]].concat());
    assert!(
        says(&stderr(&output), "phi3 models have no q_proj; name qkv_proj instead"),
        "{}",
        stderr(&output)
    );
}

/// What llama.cpp would run otherwise is not written, and layers that it tells apart by their number stay.
#[test]
fn what_llama_cpp_cannot_run_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    write(directory, Family::SmolLm3);
    let refused = |arguments: &[&str], reason: &str| {
        let output = slmc(directory, arguments);
        assert!(!output.status.success() && says(&stderr(&output), reason), "{}", stderr(&output));
    };
    let layers = ["prune", "model", "--structured", "--layers", "3", "--output", "cut"];
    refused(&layers, "layers must stay");
    let config = directory.join("model/config.json");
    let mut json: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    json["no_rope_layers"] = json!([0, 1, 1, 1]);
    std::fs::write(&config, json.to_string()).unwrap();
    refused(&["convert", "model", "--dtype", "f16"], "every 4th layer does not rotate its queries and keys");
    assert!(!directory.join("model.f16.gguf").exists());
    for (kind, found) in [("qwen3_moe", "mixture of experts"), ("mamba", "supported:")] {
        json["model_type"] = kind.into();
        json["num_experts"] = json!(if kind == "qwen3_moe" { Some(8) } else { None });
        std::fs::write(&config, json.to_string()).unwrap();
        refused(&["convert", "model", "--dtype", "f16"], found);
    }
}
