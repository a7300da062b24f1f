//! llama-perplexity's file of a base model's predictions in the model's place: what is measured against it, beside what
//! llama-perplexity prints, and what is refused.
//!
//! `LLAMA_CPP_BIN=DIRECTORY cargo test --workspace --test llama_logits`, with a directory that has llama-perplexity, lets that write the
//! file and print; without it, what it printed once is compared with.

mod common;
#[path = "../../crates/eval/tests/llama_file/mod.rs"]
mod llama_file;

#[path = "../../crates/model/tests/decoder/forward.rs"]
mod forward;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{copy_tiny, edit_json, says, slmc, stderr, stdout};
use serde_json::{Value, json};
use slmc_calibration::Tokenizer;
use slmc_model::{Device, GgufSource, WeightSource};

/// Entries of the bundled model's vocabulary.
const VOCABULARY: usize = 2048;
/// Windows that are compared with what llama-perplexity prints, and their tokens.
const CHUNKS: usize = 48;
const N_CTX: usize = 128;
/// The bundled model's token 0.
const BOS: &str = "<|endoftext|>";

fn english() -> PathBuf {
    common::tiny().join("../../calibration/data/english.txt")
}

/// What a model reads of a text.
fn tokens(model: &Path, text: &str) -> Vec<u32> {
    let tokenizer = Tokenizer::from_file(&model.join("tokenizer.json")).unwrap();
    let ids = tokenizer.encode_text(text).unwrap();
    tokenizer.bos().into_iter().chain(ids).collect()
}

fn run(directory: &Path, arguments: &[&str]) -> String {
    let output = slmc(directory, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    stdout(&output)
}

fn measure(directory: &Path, arguments: &[&str]) -> Value {
    serde_json::from_str(&run(directory, &[arguments, &["--json"]].concat())).unwrap()
}

/// The bundled model, and what is left of it after pruning: nothing is rounded on the way through either.
fn pair(directory: &Path) {
    copy_tiny(&directory.join("model"));
    run(
        directory,
        &["prune", "model", "--method", "magnitude", "--sparsity", "0.3", "--output", "pruned", "--no-eval"],
    );
    for (model, file) in [("model", "base.gguf"), ("pruned", "pruned.gguf")] {
        run(directory, &["convert", model, "--dtype", "f32", "--output", file]);
    }
    std::fs::copy(english(), directory.join("english.txt")).unwrap();
}

/// The figures that llama-perplexity prints at its end, by their labels.
fn printed(output: &str) -> BTreeMap<String, f64> {
    let (_, statistics) = output.split_once("====== Perplexity statistics").unwrap_or_default();
    let number = |text: &str| text.split_whitespace().next()?.trim_end_matches('%').parse::<f64>().ok();
    let line = |line: &str| {
        let (label, value) = line.split_once(':')?;
        Some((label.split_whitespace().collect::<Vec<_>>().join(" "), number(value)?))
    };
    statistics.lines().filter_map(line).collect()
}

/// Our figures by llama-perplexity's labels, and the half of its last digit.
fn ours(outcome: &Value) -> BTreeMap<String, (f64, f64)> {
    let percentiles = [
        ("Mean", "mean"),
        ("Maximum", "max"),
        ("99.9%", "p999"),
        ("99.0%", "p99"),
        ("95.0%", "p95"),
        ("90.0%", "p90"),
        ("75.0%", "p75"),
        ("Median", "median"),
        ("25.0%", "p25"),
        ("10.0%", "p10"),
        ("5.0%", "p5"),
        ("1.0%", "p1"),
        ("0.1%", "p0_1"),
        ("Minimum", "min"),
    ];
    let mut all = vec![
        ("Mean PPL(Q)".to_owned(), "/perplexity".to_owned(), 1.0, 5e-7),
        ("Mean PPL(base)".into(), "/base_perplexity".into(), 1.0, 5e-7),
        ("Cor(ln(PPL(Q)), ln(PPL(base)))".into(), "/nll_correlation".into(), 100.0, 5e-3),
        ("Mean ln(PPL(Q)/PPL(base))".into(), "/ln_perplexity_ratio/mean".into(), 1.0, 5e-7),
        ("Mean PPL(Q)/PPL(base)".into(), "/perplexity_ratio/mean".into(), 1.0, 5e-7),
        ("Mean PPL(Q)-PPL(base)".into(), "/perplexity_difference/mean".into(), 1.0, 5e-7),
        ("RMS Δp".into(), "/delta_p/rms".into(), 100.0, 5e-4),
        ("Same top p".into(), "/top1_agreement".into(), 100.0, 5e-4),
    ];
    for (label, name) in percentiles {
        all.push((format!("{label} KLD"), format!("/kl_divergence/{name}"), 1.0, 5e-7));
        all.push((format!("{label} Δp"), format!("/delta_p/{name}"), 100.0, 5e-4));
    }
    let value = |pointer: &str| outcome.pointer(pointer).and_then(Value::as_f64).expect("a figure");
    all.into_iter().map(|(label, pointer, unit, digit)| (label, (unit * value(&pointer), digit))).collect()
}

/// Checks every figure that llama-perplexity printed: within 2 %, its last digit, and of divergences `noise`.
fn compare(theirs: &BTreeMap<String, f64>, outcome: &Value, noise: impl Fn(f64) -> f64) {
    let ours = ours(outcome);
    // all but the two quartiles of the divergence, which it does not print
    assert_eq!(theirs.len(), ours.len() - 2, "{theirs:?}");
    for (label, theirs) in theirs {
        let (ours, digit) = ours[label];
        let noise = if label.ends_with("KLD") { noise(*theirs) } else { 0.0 };
        println!("{label}: {theirs} {ours}");
        assert!((ours - theirs).abs() <= 0.02 * theirs.abs() + digit + noise, "{label}: {theirs} {ours}");
    }
}

/// What llama-perplexity prints of the pruned model beside the original, whose predictions it keeps as `base.kld`.
fn llama_perplexity(directory: &Path, tools: &Path) -> BTreeMap<String, f64> {
    let perplexity = |arguments: &[&str]| {
        let output = Command::new(tools.join("llama-perplexity"))
            .args(arguments)
            .args(["-f", "english.txt", "-c", &N_CTX.to_string(), "--chunks", &CHUNKS.to_string(), "-t", "2"])
            .current_dir(directory)
            .output()
            .expect("llama-perplexity in LLAMA_CPP_BIN starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        printed(&stdout(&output))
    };
    perplexity(&["-m", "base.gguf", "--kl-divergence-base", "base.kld"]);
    // now and then its lines run into each other
    let mut tries = (0..3)
        .map(|_| perplexity(&["-m", "pruned.gguf", "--kl-divergence-base", "base.kld", "--kl-divergence"]));
    tries.find(|printed| printed.len() == 34).expect("all statistics")
}

#[test]
fn every_statistic_is_the_one_that_llama_perplexity_prints() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    pair(directory);
    let theirs = match std::env::var_os("LLAMA_CPP_BIN") {
        Some(tools) => llama_perplexity(directory, Path::new(&tools)),
        None => {
            eprintln!(
                "compared with what llama-perplexity printed once: LLAMA_CPP_BIN names no directory that has it"
            );
            let tokens = tokens(&common::tiny(), &std::fs::read_to_string(english()).unwrap());
            let tokens = &tokens[..CHUNKS * N_CTX];
            let bytes =
                llama_file::file(N_CTX, VOCABULARY, tokens, &logits(&directory.join("base.gguf"), tokens));
            std::fs::write(directory.join("base.kld"), bytes).unwrap();
            printed(include_str!("golden/llama_perplexity.txt"))
        }
    };
    let n_ctx = N_CTX.to_string();
    let measured = ["--base-logits", "base.kld", "--text", "english.txt", "--n-ctx", &n_ctx];
    let outcome = measure(directory, &[&["eval", "pruned.gguf"], &measured[..]].concat());
    assert_eq!((&outcome["windows"], &outcome["base"]), (&CHUNKS.into(), &"base.kld".into()));
    // llama.cpp sums in f32, which is about 1e-6; of another file of the same base, some of the 16-bit codes are others
    let live = std::env::var_os("LLAMA_CPP_BIN").is_some();
    compare(&theirs, &outcome, |kl| match (live, kl < 1e-5) {
        (true, false) => 0.0,
        (true, true) => 3e-6,
        (false, _) => 5e-6,
    });
}

/// A model's logits at the scored positions of windows; its tokenizer puts nothing in front.
fn logits(model: &Path, tokens: &[u32]) -> Vec<f32> {
    let (source, device) = (GgufSource::open(model).unwrap(), Device::Cpu.burn().unwrap());
    let of = |window: &[u32]| {
        let all = forward::logits(&source, window, N_CTX, &device, source.kv_precision());
        all[N_CTX / 2 * VOCABULARY..(N_CTX - 1) * VOCABULARY].to_vec()
    };
    tokens.chunks_exact(N_CTX).flat_map(of).collect()
}

/// A text, a model, and a file of `windows` windows of 64 tokens in which every token is as likely.
fn undecided(directory: &Path, windows: usize) -> Vec<u32> {
    copy_tiny(&directory.join("model"));
    let text = std::fs::read_to_string(english()).unwrap();
    let text = &text[..text.floor_char_boundary(5000)];
    std::fs::write(directory.join("text.txt"), text).unwrap();
    let tokens = tokens(&directory.join("model"), text)[..64 * windows].to_vec();
    std::fs::write(directory.join("base.kld"), llama_file::undecided(64, VOCABULARY, &tokens)).unwrap();
    tokens
}

const MEASURED: [&str; 6] = ["--base-logits", "base.kld", "--text", "text.txt", "--n-ctx", "64"];

#[test]
fn a_gate_and_a_report_say_what_stood_in_the_base_s_place() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    undecided(directory, 12);
    let outcome = measure(directory, &[&["eval", "model"], &MEASURED[..]].concat());
    assert_eq!((&outcome["windows"], &outcome["base"]), (&12.into(), &"base.kld".into()));
    let known = &outcome["base_logits"];
    assert_eq!(known["format"], "llama_perplexity");
    assert_eq!((&known["top_k"], &known["vocab_size"]), (&VOCABULARY.into(), &VOCABULARY.into()));
    assert_eq!((&known["kl_is_lower_bound"], &outcome["warnings"]), (&false.into(), &Value::Array(vec![])));
    let base_perplexity = outcome["base_perplexity"].as_f64().unwrap();
    assert!((base_perplexity / VOCABULARY as f64 - 1.0).abs() < 1e-5, "{base_perplexity}");

    let eval = run(directory, &[&["eval", "model", "--report", "report"], &MEASURED[..]].concat());
    let report = std::fs::read_to_string(directory.join("report/report.html")).unwrap();
    for told in [eval, report] {
        assert!(says(&told, "all 2048 tokens at each position"), "{told}");
        assert!(
            says(&told, "llama-perplexity's file") || says(&told, "llama-perplexity&#x27;s file"),
            "{told}"
        );
    }
    let gate = |more: &[&str]| slmc(directory, [&["gate", "model"], &MEASURED[..], more].concat());
    for (limit, code) in [("100", 0), ("0.01", 3)] {
        let output = gate(&["--max-kl", limit]);
        assert_eq!(output.status.code(), Some(code), "{}{}", stdout(&output), stderr(&output));
    }
    // losses of one kind say nothing of the other
    let saved = gate(&["--save-baseline", "gate.json"]);
    assert!(saved.status.success(), "{}", stderr(&saved));
    let same = gate(&["--baseline", "gate.json"]);
    assert!(same.status.success(), "{}{}", stdout(&same), stderr(&same));
    let beside = ["--text", "text.txt", "--n-ctx", "64", "--windows", "12", "--baseline", "gate.json"];
    let other = slmc(directory, [&["gate", "model", "--base", "model"], &beside[..]].concat());
    assert_eq!(other.status.code(), Some(4), "{}{}", stdout(&other), stderr(&other));
    assert!(says(&stdout(&other), "16 bits of llama-perplexity's file"), "{}", stdout(&other));
}

#[test]
fn a_window_s_first_token_may_be_bos_in_the_file_too() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    undecided(directory, 3);
    let sequence = |name, id| json!({"Sequence": {"id": name, "type_id": id}});
    edit_json(&directory.join("model/tokenizer.json"), |tokenizer| {
        tokenizer["post_processor"] = json!({
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": BOS, "type_id": 0}}, sequence("A", 0)],
            "pair": [sequence("A", 0), sequence("B", 1)],
            "special_tokens": {BOS: {"id": BOS, "ids": [0], "tokens": [BOS]}},
        });
    });
    let text = std::fs::read_to_string(directory.join("text.txt")).unwrap();
    let mut tokens = tokens(&directory.join("model"), &text)[..3 * 64].to_vec();
    assert_eq!(tokens[0], 0);
    tokens.iter_mut().step_by(64).for_each(|token| *token = 0);
    std::fs::write(directory.join("base.kld"), llama_file::undecided(64, VOCABULARY, &tokens)).unwrap();
    let outcome = measure(directory, &[&["eval", "model", "--windows", "2"], &MEASURED[..]].concat());
    assert_eq!((&outcome["windows"], &outcome["bos"]), (&2.into(), &0.into()));
}

#[test]
fn files_of_something_else_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let tokens = undecided(directory, 3);
    let write = |name: &str, bytes: &[u8]| std::fs::write(directory.join(name), bytes).unwrap();
    let whole = std::fs::read(directory.join("base.kld")).unwrap();
    write("cut.kld", &whole[..whole.len() - 4]);
    write("header.kld", b"_logits_");
    write("wider.kld", &llama_file::undecided(64, VOCABULARY + 2, &tokens));
    let mut others = tokens.clone();
    others[70] += 1;
    write("others.kld", &llama_file::undecided(64, VOCABULARY, &others));
    write("other.txt", "Another text, of which there is enough. ".repeat(200).as_bytes());
    write("short.txt", &std::fs::read(directory.join("text.txt")).unwrap()[..520]);
    let mut damaged = whole;
    let row = damaged.len() - 8 - 2 * VOCABULARY;
    damaged[row..row + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    write("damaged.kld", &damaged);

    let eval = |file: &str, text: &str, more: &[&str]| -> Output {
        slmc(directory, [&["eval", "model", "--base-logits", file, "--text", text], more].concat())
    };
    let of_64 = ["--n-ctx", "64"];
    for (file, text, more, expected) in [
        ("cut.kld", "text.txt", &of_64[..], "write it again"),
        ("header.kld", "text.txt", &of_64, "within its header"),
        ("base.kld", "text.txt", &["--n-ctx", "128"], "give --n-ctx 64"),
        ("base.kld", "text.txt", &["--n-ctx", "64", "--windows", "4"], "has 3 windows"),
        ("wider.kld", "text.txt", &of_64, "a vocabulary of 2050; that of"),
        ("others.kld", "text.txt", &of_64, "token 70 is"),
        ("base.kld", "other.txt", &of_64, "another text"),
        ("base.kld", "short.txt", &of_64, "3 windows of 64 tokens, and this one has"),
        ("damaged.kld", "text.txt", &of_64, "window 2, position 62 has no prediction"),
        ("text.txt", "text.txt", &of_64, "--kl-divergence-base"),
        ("missing.kld", "text.txt", &of_64, "cannot be read"),
    ] {
        let output = eval(file, text, more);
        assert_eq!(output.status.code(), Some(1), "{file}, {text}, {more:?}: {}", stderr(&output));
        assert!(says(&stderr(&output), expected), "{file}, {text}, {more:?}: {}", stderr(&output));
        assert!(says(&stderr(&output), file), "{}", stderr(&output));
    }
    // as of predictions of the other kind
    for more in [&["--stride", "32"][..], &["--worst", "3"]] {
        assert_eq!(eval("base.kld", "text.txt", more).status.code(), Some(2));
    }
    let tasks = ["eval", "model", "--base-logits", "base.kld", "--tasks", "bundled:smoke"];
    let output = slmc(directory, tasks);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(says(&stderr(&output), "name it with --text"), "{}", stderr(&output));
}
