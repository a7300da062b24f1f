//! `slmc distill`: a student from the teacher's layers or a pruned one, an ordinary checkpoint in the end, the same bytes after a
//! kill, and clear words where it cannot be done.

mod common;

use std::process::Command;
use std::time::{Duration, Instant};

use common::distill::{SHORT, distill, json, weights};
use common::{copy_tiny, listing, says, slmc, stderr, stdout};
use serde_json::Value;

#[test]
fn some_of_the_teachers_layers_learn() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    std::fs::write(
        directory.join("run.toml"),
        "teacher = 'model'\nlayers = 2\ntext = ['bundled:english']\nsteps = 8\noutput = 'small'\nseq-len = 48\nbatch-size = 4\n\
         evaluate-every = 4\nlearning-rate = 1e-3\n",
    )
    .unwrap();
    let outcome = json(&slmc(directory, ["distill", "run.toml", "--json"]));
    assert_eq!((outcome["steps"].as_u64(), outcome["end"].as_str()), (Some(8), Some("finished")));
    let loss = |at: &str| outcome[at]["loss"].as_f64().unwrap();
    assert!(loss("best") < 0.97 * loss("start"), "{outcome}");
    // an ordinary checkpoint in the student's element type, with everything beside the weights
    let mut expected = listing(&directory.join("model"));
    expected.push("metrics.jsonl".into());
    expected.sort();
    assert_eq!(listing(&directory.join("small")), expected);
    assert!(!directory.join("small.work").exists());
    let inspected = slmc(directory, ["inspect", "small"]);
    assert!(inspected.status.success() && says(&stdout(&inspected), "F16"), "{}", stdout(&inspected));
    let metrics = std::fs::read_to_string(directory.join("small/metrics.jsonl")).unwrap();
    let steps = metrics.lines().filter(|line| line.contains("\"kind\":\"step\"")).count();
    assert_eq!((steps, metrics.lines().count()), (8, 8 + 3));
    // flags win over the file, which is the same run otherwise
    let again = json(&distill(
        directory,
        &[
            "--layers",
            "2",
            "--steps",
            "8",
            "--learning-rate",
            "1e-3",
            "--output",
            "again",
            "--json",
            "--threads",
            "1",
            "--report",
            "report",
        ],
    ));
    assert_eq!(again["best"], outcome["best"]);
    assert!(
        weights(&directory.join("again")) == weights(&directory.join("small")),
        "other bytes with one thread"
    );
    let html = std::fs::read_to_string(directory.join("report/report.html")).unwrap();
    assert!(html.contains("chart-training-loss") && html.contains("chart-training-divergence"));
    let report: Value =
        serde_json::from_str(&std::fs::read_to_string(directory.join("report/metrics.json")).unwrap())
            .unwrap();
    let rows = report["measurements"].as_array().unwrap();
    let of = |scope: &str, metric: &str| {
        let of = |row: &&Value| row["scope"] == scope && row["metric"] == metric;
        rows.iter().filter(of).filter_map(|row| row["value"].as_f64()).collect::<Vec<_>>()
    };
    assert_eq!((of("step", "learning_rate").len(), of("held_out", "loss").len()), (8, 3));
    assert_eq!(of("summary", "loss"), [loss("best"), loss("start")]);
    let converted = slmc(directory, ["convert", "small", "--dtype", "f16"]);
    assert!(converted.status.success(), "{}", stderr(&converted));
}

#[test]
fn a_killed_run_ends_in_the_same_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    let pruned = slmc(
        directory,
        ["prune", "model", "--method", "magnitude", "--sparsity", "0.5", "--output", "pruned", "--no-eval"],
    );
    assert!(pruned.status.success(), "{}", stderr(&pruned));
    let run = ["--student", "pruned", "--steps", "40", "--learning-rate", "3e-4"];
    let whole = json(&distill(directory, &[&run[..], &["--output", "whole", "--json"]].concat()));
    assert!(
        whole["kept_zeros"].as_u64().unwrap() >= 1_048_576 && whole["best_step"].as_u64() > Some(0),
        "{whole}"
    );

    let work = directory.join("killed.work");
    let start = |more: &[&str]| {
        let first =
            ["distill", "--teacher", "model", "--text", "bundled:english", "--output", "killed", "--quiet"];
        Command::new(env!("CARGO_BIN_EXE_slmc"))
            .args([&first[..], &SHORT, &run, more].concat())
            .current_dir(directory)
            .spawn()
            .unwrap()
    };
    let metrics = work.join("metrics.jsonl");
    let step = || {
        let text = std::fs::read_to_string(&metrics).unwrap_or_default();
        // the last line may be half written
        let last = text.lines().rev().find_map(|line| serde_json::from_str::<Value>(line).ok());
        last.and_then(|line| line["step"].as_u64()).unwrap_or(0)
    };
    // Five kills, each some steps and milliseconds on, in the middle of whatever is being done or written then.
    let mut random = 2026u64;
    let mut below = |bound: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % bound
    };
    for kill in 0..5 {
        let (target, pause) = (step() + 1 + below(5), Duration::from_millis(below(80)));
        let mut process = start(if kill == 0 { &[] } else { &["--resume"] });
        let started = Instant::now();
        while step() < target && process.try_wait().unwrap().is_none() {
            assert!(started.elapsed() < Duration::from_secs(300), "no step {target} after kill {kill}");
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(pause);
        process.kill().unwrap();
        process.wait().unwrap();
        assert!(!directory.join("killed").exists(), "the run was to be killed before its end");
    }
    let refused = distill(directory, &[&run[..], &["--output", "killed"]].concat());
    assert!(!refused.status.success() && says(&stderr(&refused), "unfinished run"), "{}", stderr(&refused));
    let other =
        [&["--student", "pruned", "--steps", "41"], &run[4..], &["--output", "killed", "--resume"]].concat();
    let other = distill(directory, &other);
    assert!(says(&stderr(&other), "steps was 40 and is 41"), "{}", stderr(&other));
    let resumed =
        json(&distill(directory, &[&run[..], &["--output", "killed", "--resume", "--json"]].concat()));
    assert_eq!(resumed["best"], whole["best"]);
    assert!(weights(&directory.join("killed")) == weights(&directory.join("whole")));
    let losses = |name: &str| -> Vec<(Value, Value)> {
        let metrics = std::fs::read_to_string(directory.join(name).join("metrics.jsonl")).unwrap();
        let lines = metrics.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|line| (line["step"].clone(), line["loss"].clone())).collect()
    };
    assert_eq!(losses("killed"), losses("whole"));
    assert!(!work.exists());
}

#[test]
fn a_gguf_student_is_trained_on_the_grid_that_it_is_stored_on() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    let quantize =
        ["quantize", "model", "--method", "rtn", "--type", "q2_k", "--output", "q2.gguf", "--no-eval"];
    let quantized = slmc(directory, quantize);
    assert!(quantized.status.success(), "{}", stderr(&quantized));
    let train = |student: &str, steps: &str, output: &str| {
        let models = ["distill", "--teacher", "model", "--student", student, "--output", output, "--json"];
        let run =
            ["--text", "bundled:english", "--seq-len", "48", "--steps", steps, "--learning-rate", "2e-4"];
        json(&slmc(directory, [&models[..], &run].concat()))
    };
    let first = train("q2.gguf", "40", "better.gguf");
    let loss = |outcome: &Value, at: &str| outcome[at]["loss"].as_f64().unwrap();
    let divergence = |at: &str| first[at]["divergence"].as_f64().unwrap();
    assert!(divergence("best") < 0.92 * divergence("start"), "{first}");
    assert_eq!(first["kept_zeros"], 0);
    let metrics = std::fs::read_to_string(directory.join("better.metrics.jsonl")).unwrap();
    assert_eq!(metrics.lines().filter(|line| line.contains("\"kind\":\"step\"")).count(), 40);
    let [before, after] = ["q2.gguf", "better.gguf"].map(|name| std::fs::read(directory.join(name)).unwrap());
    assert!(
        (before.len()..before.len() + 2000).contains(&after.len()),
        "what was trained is said in the metadata"
    );
    assert_eq!(first["bytes"].as_u64(), Some(after.len() as u64));
    // types and names are the file's own, the recipe too, and beside it stands how it was trained
    let inspect = |name: &str| json(&slmc(directory, ["inspect", name, "--json"]));
    let (held, trained) = (inspect("q2.gguf"), inspect("better.gguf"));
    assert_eq!((&held["tensors"], &held["recipe"]), (&trained["tensors"], &trained["recipe"]));
    assert_eq!(held.get("distill"), None);
    let told = |inspection: &Value| -> Value {
        serde_json::from_str(inspection["distill"].as_str().unwrap()).unwrap()
    };
    let told_first = told(&trained);
    assert_eq!((&told_first["teacher"], &told_first["steps"]), (&"model".into(), &40.into()));
    assert_eq!(told_first["held_out"]["best"], first["best"]);
    // what was written is what was judged
    let second = train("better.gguf", "4", "again.gguf");
    assert_eq!(loss(&second, "start"), loss(&first, "best"));
    assert_eq!(told(&inspect("again.gguf"))["before"], told_first);
    let refused = distill(directory, &["--student", "q2.gguf", "--qat", "q2_k", "--steps", "2"]);
    assert!(!refused.status.success() && says(&stderr(&refused), "leave --qat out"), "{}", stderr(&refused));
}

#[test]
fn what_cannot_be_done_is_said_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    // another tokenizer: two tokens have changed places
    copy_tiny(&directory.join("other"));
    let path = directory.join("other/tokenizer.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let swapped = text
        .replace("\"Ġthe\":", "\"\u{1}\":")
        .replace("\"Ġand\":", "\"Ġthe\":")
        .replace("\"\u{1}\":", "\"Ġand\":");
    assert_ne!(swapped, text);
    std::fs::write(&path, swapped).unwrap();
    std::fs::write(directory.join("short.txt"), "Only a few words.").unwrap();
    std::fs::write(directory.join("bad.toml"), "learning_rate = 1").unwrap();
    std::fs::create_dir(directory.join("taken")).unwrap();
    std::fs::write(directory.join("taken/letter.txt"), "not a model").unwrap();
    let before = listing(directory);
    for (arguments, code, expected) in [
        (&["--student", "other", "--steps", "2"][..], 1, "tokenizer"),
        (&["--layers", "5"], 1, "choose 1 to 4"),
        (&["--layers", "0"], 1, "choose 1 to 4"),
        (&["--layers", "2", "--layer-choice", "best"], 2, "even or influence"),
        (&["--student", "model", "--channels", "64"], 2, "cannot be used with"),
        (&["--channels", "256", "--lora-rank", "2"], 1, "merge them with --merge"),
        (&["--channels", "256", "--train", "scales"], 1, "scales of a GGUF file"),
        (&["--channels", "256", "--output", "missing/out"], 1, "missing"),
        (&["--channels", "256", "--output", "model"], 1, "is the checkpoint itself"),
        (&["--channels", "256", "--output", "taken"], 1, "is not empty"),
        (&["--channels", "600", "--steps", "2"], 2, "600 channels cannot be kept"),
        (&["--kv-heads", "3", "--steps", "2"], 2, "3 "),
        (&["--steps", "2"], 2, "no student given"),
        (&["--student", "missing"], 1, "no such file or directory"),
        (&["--layers", "2", "--loss", "mse"], 2, "unknown loss"),
        (&["--layers", "2", "--alpha", "1.5"], 2, "from 0 to 1"),
        (&["--layers", "2", "--temperature", "0"], 2, "above 0"),
        (&["--layers", "2", "--steps", "0"], 2, "--steps 0"),
        (&["--layers", "2", "--qat", "q9"], 2, "unknown type"),
        (&["--layers", "2", "--train", "biases"], 2, "expected all, norms or scales"),
        (&["--layers", "2", "--on-policy", "2"], 2, "from 0 to 1"),
        (&["--layers", "2", "--on-policy", "0.5", "--alpha", "1"], 1, "has no hard labels"),
        (&["--layers", "2", "--lora-rank", "0"], 2, "expected 1 or more"),
        (&["--layers", "2", "--lora-rank", "2", "--lora-targets", "q,x"], 2, "gate_proj"),
        (&["--layers", "2", "--lora-alpha", "2"], 2, "need --lora-rank"),
        (&["--layers", "2", "--merge", "--steps", "2"], 1, "give --lora-rank"),
        (&["--layers", "2", "--lora-rank", "2", "--qat", "q2_k"], 1, "trains all weights"),
        (&["--layers", "2", "--accumulation", "100000"], 1, "at least 400001 are needed"),
        (&["--student", "model", "--output", "model"], 1, "is the checkpoint itself"),
        (&["bad.toml"], 2, "learning_rate"),
        (&["--layers", "2", "--output", "missing/out"], 1, "missing"),
    ] {
        let output = distill(directory, arguments);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {message}");
        assert!(says(&message, expected), "{arguments:?}: {message}");
        assert_eq!(listing(directory), before, "{arguments:?}");
    }
    let few = slmc(directory, ["distill", "--teacher", "model", "--layers", "2", "--text", "short.txt"]);
    assert!(!few.status.success() && says(&stderr(&few), "at least 9 are needed"), "{}", stderr(&few));
    let wrong = slmc(
        directory,
        ["distill", "--teacher", "model", "--layers", "2", "--text", "bundled:english", "--seq-len", "48"]
            .into_iter()
            .chain(["--steps", "60", "--evaluate-every", "4", "--learning-rate", "1"]),
    );
    assert!(!wrong.status.success() && says(&stderr(&wrong), "learning-rate"), "{}", stderr(&wrong));
    assert_eq!(listing(directory), before, "a run that made the student worse leaves nothing");
}

/// A teacher's predictions from a file teach about as the teacher does, and are refused where they are of something else.
#[test]
fn cached_predictions_teach_in_the_teachers_place() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    let text = ["--text", "bundled:english", "--seq-len", "48"];
    let cache = |more: &[&str]| {
        let first = ["distill", "cache-logits", "--teacher", "model", "--output", "logits", "--json"];
        slmc(directory, [&first[..], &text, more].concat())
    };
    let cached = json(&cache(&["--top-k", "200"]));
    assert_eq!((cached["k"].as_u64(), cached["seq_len"].as_u64()), (Some(200), Some(48)));
    assert!(cached["mean_rest"].as_f64().unwrap() < 0.5, "{cached}");
    let again = cache(&[]);
    assert!(!again.status.success() && says(&stderr(&again), "exists already"), "{}", stderr(&again));
    let pruned = slmc(
        directory,
        ["prune", "model", "--method", "magnitude", "--sparsity", "0.5", "--output", "pruned", "--no-eval"],
    );
    assert!(pruned.status.success(), "{}", stderr(&pruned));
    let run =
        ["--student", "pruned", "--steps", "12", "--batch-size", "4", "--evaluate-every", "4", "--json"];
    let learn = |from: &[&str]| slmc(directory, [&["distill"], from, &text, &run].concat());
    let live = json(&learn(&["--teacher", "model", "--output", "live"]));
    let outcome = json(&learn(&["--teacher-logits", "logits", "--output", "cached"]));
    let of = |outcome: &Value, at: &str, what: &str| outcome[at][what].as_f64().unwrap();
    assert_eq!(of(&live, "start", "cross_entropy"), of(&outcome, "start", "cross_entropy"));
    let (whole, part) = (of(&live, "start", "divergence"), of(&outcome, "start", "divergence"));
    assert!(part <= whole && part > 0.5 * whole, "{part} {whole}");
    assert!(of(&outcome, "best", "loss") < of(&outcome, "start", "loss"), "{outcome}");
    let (live, cached) = (of(&live, "best", "cross_entropy"), of(&outcome, "best", "cross_entropy"));
    assert!((live - cached).abs() < 0.05, "{live} {cached}");
    for (more, expected) in [
        (&["--teacher-logits", "logits", "--temperature", "1"][..], "give --temperature 2"),
        (&["--teacher-logits", "logits", "--loss", "logit-mse"], "choose another --loss"),
        (&["--teacher-logits", "logits", "--held-out", "bundled:code"], "other sequences"),
        (&["--teacher-logits", "model/config.json"], "no teacher's predictions"),
        (&["--teacher-logits", "missing"], "missing"),
    ] {
        let output = learn(&[more, &["--output", "refused"]].concat());
        assert!(
            !output.status.success() && says(&stderr(&output), expected),
            "{more:?}: {}",
            stderr(&output)
        );
        assert!(!directory.join("refused").exists() && !directory.join("refused.work").exists());
    }
}

/// A checkpoint of packed integers is a base for adapters, which are all that is written.
#[test]
fn adapters_learn_over_packed_integers() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    let packed = [
        "quantize",
        "model",
        "--method",
        "rtn",
        "--bits",
        "4",
        "--group-size",
        "32",
        "--no-eval",
        "--output",
        "packed",
    ];
    let packed = slmc(directory, packed);
    assert!(packed.status.success(), "{}", stderr(&packed));
    let run = [
        "--student",
        "packed",
        "--lora-rank",
        "4",
        "--steps",
        "8",
        "--learning-rate",
        "1e-3",
        "--output",
        "adapters",
    ];
    let output = distill(directory, &[&run[..], &["--json"]].concat());
    let outcome = json(&output);
    assert!(!says(&stderr(&output), "left out"), "{}", stderr(&output));
    assert!(
        outcome["best"]["loss"].as_f64().unwrap() < outcome["start"]["loss"].as_f64().unwrap(),
        "{outcome}"
    );
    let files = ["adapter_config.json", "adapter_model.safetensors", "metrics.jsonl"];
    assert_eq!(listing(&directory.join("adapters")), files);
    let whole = distill(directory, &["--student", "packed", "--output", "whole"]);
    assert!(!whole.status.success() && says(&stderr(&whole), "quantized already"), "{}", stderr(&whole));
}
