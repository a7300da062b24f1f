//! A pruned checkpoint through `slmc quantize`: zeros stay zeros where the types hold them, and where they do not, that is said.

mod common;

use std::path::Path;

use common::{copy_tiny, listing, says, slmc, stderr, stdout};
use serde_json::Value;
use slmc_checkpoint::Checkpoint;

/// The bundled model with half of its weights zero, two of every four, in `pruned`.
fn pruned(directory: &Path) {
    copy_tiny(&directory.join("model"));
    let arguments = ["prune", "model", "--method", "magnitude", "--pattern", "2:4", "--no-eval"];
    let output = slmc(directory, [&arguments[..], &["--output", "pruned"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
}

fn quantize(directory: &Path, output: &str, more: &[&str]) -> Value {
    let first = ["quantize", "pruned", "--samples", "8", "--seq-len", "64", "--json", "--no-eval"];
    let output = slmc(directory, [&first[..], &["--output", output], more].concat());
    assert!(output.status.success(), "{more:?}: {}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

/// Zeros before and kept, of the 28 linear layers.
fn zeros(report: &Value) -> Vec<[u64; 2]> {
    let tensors = report["tensors"].as_array().unwrap();
    let counted: Vec<_> = tensors.iter().filter_map(|tensor| tensor.get("zeros")).collect();
    assert_eq!(counted.len(), 4 * 7);
    counted.iter().map(|zeros| ["before", "kept"].map(|at| zeros[at].as_u64().unwrap())).collect()
}

#[test]
fn every_method_keeps_zeros_on_types_that_have_them() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    pruned(directory);
    for method in ["rtn", "imatrix", "awq", "gptq", "awq+gptq"] {
        for types in [&["--type", "q4_0"][..], &["--type", "q3_k_s"], &["--bits", "4", "--group-size", "64"]]
        {
            let name = format!("{method}-{}", types.last().unwrap());
            let report = quantize(directory, &name, &[&["--method", method, "--keep-zeros"], types].concat());
            for [before, kept] in zeros(&report) {
                assert!(before > 0 && kept == before, "{name}: {before} zeros, {kept} kept");
            }
        }
    }
    // the pattern with them, as readers of packed checkpoints see it
    let packed = Checkpoint::open(&directory.join("gptq-64")).unwrap();
    let mut values = Vec::new();
    packed.read_f32("model.layers.1.mlp.down_proj.weight", &mut values).unwrap();
    assert!(values.chunks(4).all(|group| group.iter().filter(|w| **w == 0.0).count() >= 2));
    // zeros that need not stay do not
    let report = quantize(directory, "free", &["--method", "gptq", "--type", "q4_0", "--keep-zeros=never"]);
    assert!(report["tensors"].as_array().unwrap().iter().all(|tensor| tensor.get("zeros").is_none()));
}

#[test]
fn types_without_a_zero_are_named_and_refused_where_zeros_must_stay() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    pruned(directory);
    let before = listing(directory);
    let run = |more: &[&str]| slmc(directory, [&["quantize", "pruned", "--type", "q4_k_m"], more].concat());
    let output = run(&["--method", "gptq", "--keep-zeros", "--no-eval"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(says(&stderr(&output), "stores values above a minimum"), "{}", stderr(&output));
    let output = run(&["--method", "rtn", "--dry-run"]);
    assert!(says(&stdout(&output), "its 50.0 % zeros cannot stay"), "{}", stdout(&output));
    assert_eq!(listing(directory), before);
    // without the option they are counted all the same
    let report = quantize(directory, "lost", &["--method", "rtn", "--type", "q4_k_m"]);
    assert!(zeros(&report).iter().any(|[before, kept]| kept < before));
    // and of a model that was not pruned nothing is said
    let output = slmc(directory, ["quantize", "model", "--method", "rtn", "--type", "q4_k_m", "--dry-run"]);
    assert!(!stdout(&output).contains("zeros"), "{}", stdout(&output));
}

#[test]
fn a_report_tells_of_zeros_before_and_after() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    pruned(directory);
    let report = quantize(directory, "out.gguf", &["--method", "rtn", "--type", "q4_0", "--report", "told"]);
    let before: u64 = zeros(&report).iter().map(|[before, _]| before).sum();
    let text = std::fs::read(directory.join("told/metrics.json")).unwrap();
    let metrics: Value = serde_json::from_slice(&text).unwrap();
    let rows = metrics["measurements"].as_array().unwrap();
    let of = |scope: &str, metric: &str| -> f64 {
        let rows = rows.iter().filter(|row| row["scope"] == scope && row["metric"] == metric);
        rows.map(|row| row["value"].as_f64().unwrap()).sum()
    };
    for scope in ["summary", "tensor"] {
        assert_eq!([of(scope, "zeros_before"), of(scope, "zeros_kept")], [before as f64; 2], "{scope}");
    }
    let html = std::fs::read_to_string(directory.join("told/report.html")).unwrap();
    assert!(html.contains("zeros kept") && html.contains(&format!("of {before}")));
}

#[test]
fn types_by_measured_cost_are_those_that_hold_zeros() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    pruned(directory);
    let report = quantize(directory, "out.gguf", &["--method", "gptq", "--target-bpw", "5", "--keep-zeros"]);
    assert!(report["bits_per_weight"].as_f64().unwrap() <= 5.0);
    assert!(zeros(&report).iter().all(|[before, kept]| before == kept));
}
