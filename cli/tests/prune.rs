//! `slmc prune`: exact zeros in an ordinary checkpoint, less lost the more is known, and the same bytes however it is run.

mod common;

use std::path::Path;
use std::process::Output;

use common::{copy_tiny, listing, says, slmc, stderr, stdout};
use serde_json::Value;

fn prune(directory: &Path, output: &str, more: &[&str]) -> Output {
    let first = ["prune", "model", "--calibration", "bundled:english", "--text", "bundled:english"];
    let sizes = ["--samples", "16", "--seq-len", "128", "--output", output];
    slmc(directory, [&first[..], &sizes, more].concat())
}

fn report(output: &Output) -> Value {
    assert!(output.status.success(), "{}", stderr(output));
    serde_json::from_str(&stdout(output)).unwrap()
}

fn figure(report: &Value, pointer: &str) -> f64 {
    report.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer} in {report}"))
}

/// All of a checkpoint's weights.
fn weights(directory: &Path) -> Vec<u8> {
    std::fs::read(directory.join("model.safetensors")).unwrap()
}

#[test]
fn zeros_are_exact_and_methods_that_know_more_lose_less() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    let mut losses = Vec::new();
    for (method, more) in [
        ("magnitude", &[][..]),
        ("wanda", &[]),
        ("sparsegpt", &["--effort", "fast"]),
        ("sparsegpt", &["--effort", "balanced"]),
    ] {
        let name = format!("{method}{}", more.join(""));
        let output =
            prune(directory, &name, &[&["--method", method, "--sparsity", "0.5", "--json"], more].concat());
        let report = report(&output);
        let tensors = report["tensors"].as_array().unwrap();
        let pruned: Vec<_> =
            tensors.iter().filter(|t| t["name"].as_str().unwrap().contains("_proj")).collect();
        assert_eq!(pruned.len(), 4 * 7);
        for tensor in &pruned {
            let shape = tensor["shape"].as_array().unwrap();
            let count: u64 = shape.iter().map(|d| d.as_u64().unwrap()).product();
            // a weight that is too small for F16 may be a zero of its own
            let zeros = tensor["zeros"].as_u64().unwrap();
            assert!((count / 2..count / 2 + 8).contains(&zeros), "{name}: {tensor}");
            if method != "magnitude" {
                let [before, after] =
                    ["before", "after"].map(|at| figure(tensor, &format!("/output_error/{at}")));
                assert!(after < 1.02 * before, "{name}: {tensor}");
            }
        }
        losses.push(figure(&report, "/evaluation/kl_divergence/mean"));
    }
    println!("{losses:?}");
    assert!(losses.is_sorted_by(|more, less| more > less), "{losses:?}");
    // an ordinary checkpoint, with everything beside the weights
    assert_eq!(listing(&directory.join("wanda")), listing(&directory.join("model")));
    let converted = slmc(directory, ["convert", "wanda", "--dtype", "f16"]);
    assert!(converted.status.success(), "{}", stderr(&converted));
}

#[test]
fn patterns_leave_n_of_every_m() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    for (method, effort) in [("wanda", None), ("sparsegpt", Some("best"))] {
        let mut arguments = vec!["--method", method, "--pattern", "2:4", "--no-eval", "--json"];
        arguments.extend(effort.into_iter().flat_map(|effort| ["--effort", effort]));
        let first =
            ["prune", "model", "--calibration", "bundled:english", "--samples", "8", "--seq-len", "64"];
        let output = slmc(directory, [&first[..], &arguments, &["--output", method]].concat());
        report(&output);
        let checkpoint = slmc_checkpoint::Checkpoint::open(&directory.join(method)).unwrap();
        let (mut values, mut groups) = (Vec::new(), 0);
        for tensor in checkpoint.tensors().filter(|tensor| tensor.name.contains("_proj")) {
            checkpoint.read_f32(&tensor.name, &mut values).unwrap();
            for group in values.chunks(4) {
                assert!(
                    group.iter().filter(|w| **w != 0.0).count() <= 2,
                    "{method}, {}: {group:?}",
                    tensor.name
                );
                groups += 1;
            }
        }
        assert!(groups > 100_000);
    }
}

#[test]
fn bytes_do_not_depend_on_threads() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    let run = |output: &str, more: &[&str]| {
        let first = ["prune", "model", "--sparsity", "0.4", "--calibration", "bundled:english", "--no-eval"];
        let sizes = ["--samples", "8", "--seq-len", "64", "--output", output];
        let output = slmc(directory, [&first[..], &sizes, more].concat());
        assert!(output.status.success(), "{}", stderr(&output));
    };
    run("two", &["--threads", "2"]);
    run("one", &["--threads", "1"]);
    assert!(weights(&directory.join("two")) == weights(&directory.join("one")));
    // a run again replaces what slmc wrote
    run("one", &["--threads", "3"]);
    assert!(weights(&directory.join("two")) == weights(&directory.join("one")));
}

#[test]
fn what_cannot_be_pruned_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    let refused = |more: &[&str], code: i32, message: &str| {
        let output = slmc(directory, [&["prune", "model", "--no-eval"][..], more].concat());
        assert_eq!(output.status.code(), Some(code), "{more:?}: {}", stderr(&output));
        assert!(says(&stderr(&output), message), "{more:?}: {}", stderr(&output));
    };
    refused(&["--sparsity", "0"], 1, "nothing would be pruned");
    refused(&["--sparsity", "1.5"], 2, "expected a share from 0 up to 1");
    refused(&["--sparsity", "2:4"], 2, "patterns go to --pattern");
    refused(&[], 2, "--sparsity");
    refused(
        &["--pattern", "3:5", "--method", "magnitude"],
        1,
        "256 columns are no multiple of the pattern's 5",
    );
    refused(&["--sparsity", "0.5", "--keep", "no_such"], 1, "--keep `no_such` matches no linear layer");
    refused(
        &["--sparsity", "0.5", "--method", "wanda", "--effort", "best"],
        2,
        "--effort means nothing to wanda",
    );
    refused(&["--sparsity", "0.5", "--scope", "global"], 2, "--scope means nothing to sparsegpt");
    refused(&["--sparsity", "0.5", "--scores", "s"], 2, "--scores means nothing to sparsegpt");
    refused(&["--pattern", "2:4", "--layer-sparsity", "owl"], 2, "--layer-sparsity");
    refused(&["--sparsity", "0.5", "--owl-lambda", "0.1"], 2, "are --layer-sparsity owl's");
    refused(&["--sparsity", "0.5", "--output", "model"], 1, "is the checkpoint itself");
    assert_eq!(listing(directory), ["model"]);
    // the plan names what is kept
    let output = slmc(directory, ["prune", "model", "--sparsity", "0.5", "--keep", "ffn_down", "--dry-run"]);
    assert!(says(&stdout(&output), "--keep `ffn_down`"), "{}", stdout(&output));
    assert_eq!(listing(directory), ["model"]);
}

#[test]
fn a_report_tells_of_zeros_and_of_magnitude() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    report(&prune(directory, "out", &["--sparsity", "0.5", "--report", "told", "--json"]));
    let html = std::fs::read_to_string(directory.join("told/report.html")).unwrap();
    assert!(html.contains("pruned by magnitude") && !html.contains("rounded to nearest"));
    let metrics: Value =
        serde_json::from_slice(&std::fs::read(directory.join("told/metrics.json")).unwrap()).unwrap();
    let rows = metrics["measurements"].as_array().unwrap();
    let pruned = rows.iter().filter(|row| row["metric"] == "sparsity" && row["scope"] == "tensor");
    let shares: Vec<f64> = pruned.map(|row| row["value"].as_f64().unwrap()).collect();
    assert_eq!(shares.iter().filter(|share| (0.5..0.51).contains(*share)).count(), 4 * 7);
}

/// Zeros of every linear layer, in order, as the report tells them.
fn zeros(report: &Value) -> Vec<u64> {
    let tensors = report["tensors"].as_array().unwrap().iter();
    tensors
        .filter(|t| t["name"].as_str().unwrap().contains("_proj"))
        .map(|t| t["zeros"].as_u64().unwrap())
        .collect()
}

#[test]
fn the_smallest_of_all_layers_together_are_those_of_sorting_them() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    let more = ["--method", "magnitude", "--sparsity", "0.3", "--scope", "global", "--json", "--no-eval"];
    let report = report(&slmc(directory, [&["prune", "model", "--output", "out"][..], &more].concat()));
    let [before, after] =
        ["model", "out"].map(|name| slmc_checkpoint::Checkpoint::open(&directory.join(name)).unwrap());
    let (mut values, mut all, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    for tensor in before.tensors().filter(|tensor| tensor.name.contains("_proj")) {
        before.read_f32(&tensor.name, &mut values).unwrap();
        all.extend(values.iter().map(|w| w.abs()));
        after.read_f32(&tensor.name, &mut values).unwrap();
        kept.extend(values.iter().filter(|w| **w != 0.0).map(|w| w.abs()));
    }
    let total = (0.3 * all.len() as f64).round() as usize;
    // a weight that was zero before is one of them
    assert!((total..total + 8).contains(&(zeros(&report).iter().sum::<u64>() as usize)));
    all.sort_by(f32::total_cmp);
    let least = kept.iter().copied().fold(f32::MAX, f32::min);
    assert_eq!(least, all[all.len() - kept.len()]);
}

#[test]
fn shares_that_differ_by_block_meet_the_whole_share_exactly() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    for (way, method) in [("owl", "magnitude"), ("measured", "wanda"), ("owl", "sparsegpt")] {
        let more = ["--method", method, "--sparsity", "0.55", "--layer-sparsity", way, "--json"];
        let report = report(&prune(directory, way, &more));
        assert_eq!(report["layer_sparsity"]["kind"], way);
        let shapes = report["tensors"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|t| t["name"].as_str().unwrap().contains("_proj"));
        let weights: Vec<u64> = shapes
            .map(|t| t["shape"].as_array().unwrap().iter().map(|d| d.as_u64().unwrap()).product())
            .collect();
        let total = (0.55 * weights.iter().sum::<u64>() as f64).round() as u64;
        let zeros = zeros(&report);
        assert!((total..total + 16).contains(&zeros.iter().sum()), "{way}: {zeros:?}");
        let shares: Vec<f64> = zeros.iter().zip(&weights).map(|(z, w)| *z as f64 / *w as f64).collect();
        let blocks: Vec<f64> = shares.chunks(7).map(|block| block[0]).collect();
        let spread = blocks.iter().copied().fold(0.0, f64::max) - blocks.iter().copied().fold(1.0, f64::min);
        assert!(spread > 0.01, "{way}: {blocks:?}");
        if way == "owl" {
            assert!(spread < 0.17, "{blocks:?}");
        }
    }
}

#[test]
fn scores_are_gathered_once_and_those_of_another_run_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    let scored = |output: &str, more: &[&str]| {
        let first = ["--method", "wanda", "--sparsity", "0.5", "--scores", "scores", "--no-eval"];
        let text =
            ["prune", "model", "--calibration", "bundled:english", "--samples", "8", "--seq-len", "64"];
        slmc(directory, [&text[..], &first, &["--output", output], more].concat())
    };
    assert!(scored("one", &[]).status.success());
    let scores = std::fs::read(directory.join("scores")).unwrap();
    assert!(scored("two", &["--threads", "1"]).status.success());
    assert!(weights(&directory.join("one")) == weights(&directory.join("two")));
    assert!(std::fs::read(directory.join("scores")).unwrap() == scores);
    // block costs are added to what is there
    let output = scored("three", &["--layer-sparsity", "measured"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(std::fs::metadata(directory.join("scores")).unwrap().len() > scores.len() as u64);
    let refused = |output: &Output, message: &str| {
        assert_eq!(output.status.code(), Some(1), "{}", stderr(output));
        assert!(says(&stderr(output), message), "{}", stderr(output));
    };
    refused(&scored("four", &["--seed", "1"]), "other calibration tokens");
    std::fs::rename(directory.join("one"), directory.join("model-pruned")).unwrap();
    std::fs::rename(directory.join("model"), directory.join("dense")).unwrap();
    std::fs::rename(directory.join("model-pruned"), directory.join("model")).unwrap();
    refused(&scored("four", &[]), "those of another model");
    std::fs::write(directory.join("scores"), b"no scores").unwrap();
    refused(&scored("four", &[]), "is no file of scores");
    assert!(!directory.join("four").exists());
}

#[test]
fn a_gguf_file_holds_what_the_checkpoint_would() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    let common = ["--method", "magnitude", "--sparsity", "0.5", "--json"];
    let [checkpoint, file] = ["out", "out.gguf"].map(|name| report(&prune(directory, name, &common)));
    assert_eq!(listing(directory), ["model", "out", "out.gguf"]);
    let bytes = std::fs::metadata(directory.join("out.gguf")).unwrap().len();
    assert_eq!(file["bytes"].as_u64(), Some(bytes));
    assert_eq!(zeros(&file), zeros(&checkpoint));
    // the same weights: what convert makes of the checkpoint, byte for byte but for the names
    let converted = slmc(directory, ["convert", "out", "--dtype", "f16", "--output", "converted.gguf"]);
    assert!(converted.status.success(), "{}", stderr(&converted));
    let open = |name: &str| slmc_gguf::container::GgufFile::open(&directory.join(name)).unwrap();
    let [file, converted] = ["out.gguf", "converted.gguf"].map(open);
    for tensor in converted.tensors() {
        let other = file.tensor(&tensor.name).unwrap();
        assert!(file.data(other) == converted.data(tensor), "{}", tensor.name);
    }
    let plan = prune(directory, "plan.gguf", &[&common[..], &["--dry-run"]].concat());
    assert_eq!(report(&plan)["output_bytes"].as_u64(), Some(bytes));
    let refused = slmc(directory, ["prune", "model", "--sparsity", "0.5", "--dtype", "f32"]);
    assert!(says(&stderr(&refused), "--dtype means nothing to a checkpoint"), "{}", stderr(&refused));
}
