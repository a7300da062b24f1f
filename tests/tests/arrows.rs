//! Data flows one way, and so do the arrows: a crate uses only crates below it.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// The house, from the roof down. Crates that share a line must not use each other.
const HOUSE: [&[&str]; 10] = [
    &["slmc-tests", "xtask"],
    &["slmc"],
    &["slmc-pipeline"],
    &["slmc-distill", "slmc-eval", "slmc-prune", "slmc-report"],
    &["slmc-quant"],
    &["slmc-calibration"],
    &["slmc-model"],
    &["slmc-checkpoint"],
    &["slmc-gguf", "slmc-matmul"],
    &[],
];

fn floor(name: &str) -> Option<usize> {
    HOUSE.iter().position(|crates| crates.contains(&name))
}

fn packages() -> Vec<Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ stands in the workspace");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root)
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    metadata["packages"].as_array().expect("packages").clone()
}

#[test]
fn every_crate_uses_only_crates_below_it() {
    let mut arrows = 0;
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        let Some(from) = floor(name) else { panic!("{name} has no floor in the house: add it to HOUSE") };
        for dependency in package["dependencies"].as_array().unwrap() {
            let Some(to) = floor(dependency["name"].as_str().unwrap()) else { continue };
            arrows += 1;
            assert!(to > from, "{name} uses {}, which is not below it", dependency["name"]);
        }
    }
    assert!(arrows >= 10, "only {arrows} arrows found: the test looks in the wrong place");
}

#[test]
fn gguf_and_quant_know_no_model() {
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        if !["slmc-gguf", "slmc-checkpoint", "slmc-quant", "slmc-prune"].contains(&name) {
            continue;
        }
        for dependency in package["dependencies"].as_array().unwrap() {
            let used = dependency["name"].as_str().unwrap();
            assert!(!used.starts_with("burn") && used != "slmc-model", "{name} uses {used}");
        }
    }
}
