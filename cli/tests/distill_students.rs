//! `slmc distill`: students of other sizes than their teacher, cut out of it or fresh, and of other paddings.

mod common;

use std::process::Command;
use std::time::{Duration, Instant};

use common::distill::{SHORT, distill, json, weights};
use common::{copy_tiny, edit_json, pad, says, slmc, stderr};
use serde_json::Value;

/// Rows of a head that stand for no token count for nothing, whoever has them; tokens that are not the same are named.
#[test]
fn padded_vocabularies_are_compared_by_their_tokens() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    for name in ["model", "padded"] {
        copy_tiny(&directory.join(name));
    }
    pad(&directory.join("padded"), 64);
    let text = ["--text", "bundled:english", "--seq-len", "48"];
    let cache = ["distill", "cache-logits", "--teacher", "model", "--top-k", "9999", "--output", "logits"];
    let cached = slmc(directory, [&cache[..], &text].concat());
    assert!(cached.status.success(), "{}", stderr(&cached));
    let train = |teacher: &[&str], student: &str, output: &str| {
        let run = ["--student", student, "--steps", "2", "--output", output, "--json"];
        slmc(directory, [&["distill"], teacher, &text, &SHORT[2..], &run].concat())
    };
    // the teacher itself, but for padding on either side: nothing to learn at first
    for (teacher, student) in [
        (&["--teacher", "padded"][..], "model"),
        (&["--teacher", "model"], "padded"),
        (&["--teacher-logits", "logits"], "padded"),
    ] {
        let output = train(teacher, student, "out");
        let outcome = json(&output);
        let start = outcome["start"]["divergence"].as_f64().unwrap();
        assert!(start.abs() < 1e-5, "{teacher:?}: {start}");
        std::fs::remove_dir_all(directory.join("out")).unwrap();
    }
    // one of the rows stands for a token after all
    let extra = |content: &str| {
        serde_json::json!({
            "id": 2048, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true
        })
    };
    let add = |name: &str, content: &str| {
        edit_json(&directory.join(name).join("tokenizer.json"), |tokenizer| {
            tokenizer["added_tokens"].as_array_mut().unwrap().push(extra(content));
        });
    };
    add("padded", "<extra>");
    let refused = train(&["--teacher", "padded"], "model", "out");
    assert!(
        says(&stderr(&refused), "token 2048 is nothing in model and \"<extra>\" in padded"),
        "{}",
        stderr(&refused)
    );
    let refused = train(&["--teacher-logits", "logits"], "padded", "out");
    assert!(says(&stderr(&refused), "another tokenizer than `padded`"), "{}", stderr(&refused));
    // as many rows, and a token that no text has
    copy_tiny(&directory.join("other"));
    pad(&directory.join("other"), 64);
    add("other", "<another>");
    let refused = train(&["--teacher", "padded"], "other", "out");
    let said = "token 2048 is \"<another>\" in other and \"<extra>\" in padded";
    assert!(says(&stderr(&refused), said), "{}", stderr(&refused));
    assert!(!directory.join("out").exists());
}

/// A student cut out of its teacher by structured pruning: the sizes asked for, an ordinary checkpoint, the same after a kill.
#[test]
fn a_narrower_student_is_cut_out_of_the_teacher() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    let config = |name: &str| -> Value {
        serde_json::from_slice(&std::fs::read(directory.join(name).join("config.json")).unwrap()).unwrap()
    };
    let sizes = ["--layers", "3", "--channels", "256", "--kv-heads", "1", "--hidden-size", "192"];
    let run = ["--steps", "16", "--learning-rate", "3e-4", "--json"];
    let outcome = json(&distill(directory, &[&sizes[..], &run, &["--output", "narrow"]].concat()));
    let loss = |outcome: &Value, at: &str| outcome[at]["loss"].as_f64().unwrap();
    assert!(loss(&outcome, "best") < loss(&outcome, "start"), "{outcome}");
    assert_eq!(outcome["student"], "3 layers, 1 kv-heads, 256 channels, hidden size 192 of the teacher");
    let narrow = config("narrow");
    for (field, expected) in [
        ("num_hidden_layers", 3),
        ("intermediate_size", 256),
        ("num_key_value_heads", 1),
        ("num_attention_heads", 2),
        ("hidden_size", 192),
        ("head_dim", 64),
    ] {
        assert_eq!(narrow[field], expected, "{field}");
    }
    assert_eq!(narrow["slmc"]["recipe"]["student"]["layers"], serde_json::json!([0, 2, 3]));
    let evaluated =
        slmc(directory, ["eval", "narrow", "--text", "bundled:english", "--windows", "2", "--json"]);
    assert!(evaluated.status.success(), "{}", stderr(&evaluated));
    assert!(!directory.join("narrow.work").exists());

    // killed on its way: the cut is not made again, and the bytes are the same
    let first =
        ["distill", "--teacher", "model", "--text", "bundled:english", "--output", "killed", "--quiet"];
    let mut process = Command::new(env!("CARGO_BIN_EXE_slmc"))
        .args([&first[..], &SHORT, &sizes, &run].concat())
        .current_dir(directory)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let (begun, started) = (directory.join("killed.work/state-4"), Instant::now());
    while !begun.exists() && process.try_wait().unwrap().is_none() {
        assert!(started.elapsed() < Duration::from_secs(300));
        std::thread::sleep(Duration::from_millis(2));
    }
    process.kill().unwrap();
    process.wait().unwrap();
    if !directory.join("killed").exists() {
        let refused = distill(directory, &[&sizes[..], &run, &["--output", "killed"]].concat());
        assert!(says(&stderr(&refused), "unfinished run"), "{}", stderr(&refused));
        json(&distill(directory, &[&sizes[..], &run, &["--output", "killed", "--resume"]].concat()));
    }
    assert!(weights(&directory.join("killed")) == weights(&directory.join("narrow")));

    // by influence other layers stay, and text that is too short leaves nothing
    let by = ["--layers", "2", "--layer-choice", "influence", "--output", "by-influence"];
    let outcome = json(&distill(directory, &[&by[..], &run].concat()));
    assert_eq!(outcome["student"], "2 layers of most influence of the teacher");
    std::fs::write(directory.join("short.txt"), "Only a few words. ".repeat(40)).unwrap();
    let few =
        ["distill", "--teacher", "model", "--channels", "256", "--text", "short.txt", "--output", "few"];
    let few = slmc(directory, few);
    assert!(!few.status.success() && says(&stderr(&few), "is too short"), "{}", stderr(&few));
    assert!(!directory.join("few").exists() && !directory.join("few.work").exists());
}

/// A fresh student of other dimensions, an ordinary checkpoint with the teacher's tokenizer.
#[test]
fn a_fresh_student_begins_at_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    let text = std::fs::read_to_string(directory.join("model/config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["num_hidden_layers"] = 1.into();
    config["intermediate_size"] = 64.into();
    let write = |config: &Value| std::fs::write(directory.join("small.json"), config.to_string()).unwrap();
    write(&config);
    let run =
        ["--student", "small.json", "--steps", "8", "--learning-rate", "3e-3", "--output", "fresh", "--json"];
    let outcome = json(&distill(directory, &run));
    let perplexity = |at: &str| outcome[at]["cross_entropy"].as_f64().unwrap().exp();
    let vocab = config["vocab_size"].as_f64().unwrap();
    assert!((perplexity("start") / vocab - 1.0).abs() < 0.2, "knows nothing: {outcome}");
    assert!(perplexity("best") < 0.9 * perplexity("start"), "{outcome}");
    let evaluated =
        slmc(directory, ["eval", "fresh", "--text", "bundled:english", "--windows", "2", "--json"]);
    assert!(evaluated.status.success(), "{}", stderr(&evaluated));
    config["vocab_size"] = 100.into();
    write(&config);
    let refused = distill(directory, &["--student", "small.json", "--output", "refused"]);
    assert!(says(&stderr(&refused), "the teacher's tokenizer has"), "{}", stderr(&refused));
}
