//! `slmc eval`: what it states of itself, how the parts make up the whole, padded heads, and Ctrl-C.

mod common;

use std::path::Path;
use std::process::Output;

use common::{copy_tiny, edit_json, pad, says, slmc, stderr, stdout};
use serde_json::{Value, json};

fn eval(directory: &Path, arguments: &[&str]) -> Output {
    slmc(directory, [&["eval"], arguments].concat())
}

fn measured(directory: &Path, arguments: &[&str]) -> Value {
    let output = eval(directory, &[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

/// The bundled model as `model`, and rounded to 4 bits as `q4_0.gguf`.
fn models(directory: &Path) {
    copy_tiny(&directory.join("model"));
    let arguments =
        ["quantize", "model", "--method", "rtn", "--type", "q4_0", "--no-eval", "--output", "q4_0.gguf"];
    let output = slmc(directory, arguments);
    assert!(output.status.success(), "{}", stderr(&output));
}

fn number(value: &Value, pointer: &str) -> f64 {
    value.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer} in {value}"))
}

#[test]
fn windows_stride_and_bos_are_stated() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    let text = ["--text", "bundled:english", "--n-ctx", "128", "--windows", "4"];
    let side_by_side = measured(directory, &[&["model"], &text[..]].concat());
    assert_eq!(side_by_side["windowing"], "side_by_side");
    assert_eq!((&side_by_side["stride"], &side_by_side["tokens"]), (&json!(128), &json!(4 * 63)));
    let strided = measured(directory, &[&["model", "--stride", "32"], &text[..]].concat());
    assert_eq!((&strided["windowing"], &strided["stride"]), (&json!("strided"), &json!(32)));
    assert_eq!((&strided["tokens"], &strided["bos"]), (&json!(127 + 3 * 32), &side_by_side["bos"]));
    assert_eq!(strided["complete"], true);

    let table = eval(directory, &[&["model"], &text[..]].concat());
    assert!(
        says(&stdout(&table), "4 windows of 128 side by side, second half scored,"),
        "{}",
        stdout(&table)
    );
    let table = eval(directory, &[&["model", "--stride", "32"], &text[..]].concat());
    assert!(says(&stdout(&table), "4 windows of 128, stride 32, what is new scored,"), "{}", stdout(&table));
    let refused = eval(directory, &[&["model", "--stride", "129"], &text[..]].concat());
    assert_eq!(refused.status.code(), Some(2));
    assert!(says(&stderr(&refused), "a stride of 129 leaves tokens out"), "{}", stderr(&refused));
    std::fs::write(directory.join("slmc.toml"), "[eval]\nstride = 64\n").unwrap();
    assert_eq!(measured(directory, &[&["model"], &text[..]].concat())["stride"], 64);
}

/// From a text to its figures: see `crates/eval/tests/golden/make_strided.py`.
#[test]
fn strided_figures_are_those_of_transformers() {
    let golden: Value =
        serde_json::from_str(include_str!("../../crates/eval/tests/golden/strided.json")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    std::fs::write(directory.join("text.txt"), golden["text"].as_str().unwrap()).unwrap();
    // the bundled model's tokenizer adds no BOS
    for case in golden["without_bos"]["cases"].as_array().unwrap() {
        let [n_ctx, stride] = ["n_ctx", "stride"].map(|name| case[name].to_string());
        let arguments = ["model", "--text", "text.txt", "--n-ctx", &n_ctx, "--stride", &stride];
        let found = measured(directory, &arguments);
        for exact in ["n_ctx", "stride", "windows", "tokens"] {
            assert_eq!(found[exact], case[exact], "{exact}");
        }
        assert_eq!(found["bos"], Value::Null);
        for figure in ["/perplexity", "/bits_per_byte"] {
            let (found, expected) = (number(&found, figure), number(case, figure));
            assert!((found / expected - 1.0).abs() < 1e-5, "{figure} of {case}: {found}");
        }
    }
}

#[test]
fn parts_make_up_the_whole() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    models(directory);
    let text = |n: usize| "The boat was late again, and 수 nobody said a word. ".repeat(6 * n);
    let records: Vec<String> = (1..5).map(|n| json!({ "text": text(n) }).to_string()).collect();
    std::fs::write(directory.join("text.jsonl"), records.join("\n")).unwrap();
    // strided, so that every token but the first is scored
    let arguments =
        ["q4_0.gguf", "--base", "model", "--text", "text.jsonl", "--n-ctx", "96", "--stride", "48"];
    let whole = measured(directory, &arguments);
    let tokens = number(&whole, "/tokens");
    for parts in ["positions", "documents"] {
        let parts = whole[parts].as_array().unwrap();
        let sum = |of: &str| parts.iter().map(|part| number(part, of) * number(part, "/tokens")).sum::<f64>();
        assert_eq!(parts.iter().map(|part| number(part, "/tokens")).sum::<f64>(), tokens);
        for (of, mean) in [
            ("/nll/mean", number(&whole, "/nll/mean")),
            ("/kl_divergence/mean", number(&whole, "/kl_divergence/mean")),
            ("/base_nll/mean", number(&whole, "/base_perplexity").ln()),
            ("/top1_agreement", number(&whole, "/top1_agreement")),
        ] {
            assert!((sum(of) / tokens / mean - 1.0).abs() < 1e-9, "{of}: {} and {mean}", sum(of) / tokens);
        }
    }
    let contexts: Vec<_> =
        whole["positions"].as_array().unwrap().iter().map(|p| &p["context_from"]).collect();
    assert_eq!(contexts, [1, 13, 25, 37, 49, 61, 73, 85]);
    let documents = whole["documents"].as_array().unwrap();
    assert_eq!(documents.len(), 4);
    // the blank line behind a document counts with it; of the first, the tokens that nothing predicts do not
    let bytes: Vec<_> = documents.iter().map(|document| number(document, "/bytes") as usize).collect();
    assert_eq!(bytes[1..], [text(2).len() + 2, text(3).len() + 2, text(4).len()]);
    assert!(bytes[0] <= text(1).len() + 2 && bytes[0] > text(1).len() - 8, "{bytes:?}");
    let bits = number(&whole, "/nll/mean") * tokens / std::f64::consts::LN_2;
    let per_byte = bits / bytes.iter().sum::<usize>() as f64;
    assert!((number(&whole, "/bits_per_byte") / per_byte - 1.0).abs() < 1e-9);
    assert!(number(&whole, "/top5_agreement") >= number(&whole, "/top1_agreement"));

    let table = eval(directory, &[&arguments[..], &["--breakdown"]].concat());
    for part in ["By tokens of context:", "85 … 95", "By document:", "bits per byte"] {
        assert!(says(&stdout(&table), part), "{part}: {}", stdout(&table));
    }
}

#[test]
fn worst_windows_show_what_both_models_expect() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    models(directory);
    let text = ["--text", "bundled:english", "--n-ctx", "96"];
    let compared = [&["q4_0.gguf", "--base", "model"], &text[..]].concat();
    let report = measured(directory, &[&compared[..], &["--continuation", "6"]].concat());
    let worst = report["worst"].as_array().unwrap();
    assert_eq!(worst.len(), 10);
    let means: Vec<f64> = worst.iter().map(|case| number(case, "/mean_kl")).collect();
    assert!(
        means.is_sorted_by(|a, b| a >= b) && means[9] > number(&report, "/kl_divergence/mean"),
        "{means:?}"
    );
    let largest = worst.iter().map(|case| number(case, "/kl")).fold(0.0, f64::max);
    assert!(largest <= number(&report, "/kl_divergence/max"));
    let (mut same, mut told) = (0, 0);
    for case in worst {
        assert!((48..95).contains(&(number(case, "/position") as usize)), "{case}");
        for (side, nll) in [("base", "/base_nll"), ("model", "/nll")] {
            let likeliest = case[side]["likeliest"].as_array().unwrap();
            assert_eq!(likeliest.len(), 5);
            let shares: Vec<f64> = likeliest.iter().map(|token| number(token, "/probability")).collect();
            assert!(shares.is_sorted_by(|a, b| a >= b) && shares.iter().sum::<f64>() < 1.0, "{shares:?}");
            // the continuation begins with the likeliest token, and the token that came has the probability that was scored
            let continuation = case[side]["continuation"].as_str().unwrap();
            assert!(continuation.starts_with(likeliest[0]["text"].as_str().unwrap()), "{case}");
            for token in likeliest.iter().filter(|token| token["text"] == case["token"]) {
                let scored = (-number(case, nll)).exp();
                assert!((number(token, "/probability") / scored - 1.0).abs() < 1e-3, "{case}");
                told += 1;
            }
        }
        same += usize::from(case["base"]["continuation"] == case["model"]["continuation"]);
    }
    assert!(told > 0, "no token that came was among the likeliest");
    assert!(same < 10, "two models that never differ");

    // none by default where people read, none for one model, none when there is nothing to compare
    let table = eval(directory, &compared);
    assert!(!says(&stdout(&table), "goes on"), "{}", stdout(&table));
    let table = eval(directory, &[&compared[..], &["--worst", "2"]].concat());
    assert!(says(&stdout(&table), "2. window") && !says(&stdout(&table), "3. window"), "{}", stdout(&table));
    assert!(says(&stdout(&table), "goes on"), "{}", stdout(&table));
    let alone = [&["model"], &text[..]].concat();
    assert_eq!(measured(directory, &alone).get("worst"), None);
    let refused = eval(directory, &[&alone[..], &["--worst", "2"]].concat());
    assert_eq!(refused.status.code(), Some(2));
    assert_eq!(measured(directory, &[&compared[..], &["--worst", "0"]].concat()).get("worst"), None);
}

#[test]
fn padded_heads_are_compared_by_what_rows_stand_for() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    models(directory);
    copy_tiny(&directory.join("padded"));
    pad(&directory.join("padded"), 64);
    let text = ["--text", "bundled:english", "--n-ctx", "128", "--windows", "4"];
    let against = |base: &'static str| [&["q4_0.gguf", "--base", base], &text[..]].concat();
    let mut plain = measured(directory, &against("model"));
    let mut padded = measured(directory, &against("padded"));
    assert_eq!(
        padded["warnings"],
        json!([{ "kind": "padded_vocabulary", "side": "base", "rows": 2112, "shared": 2048 }])
    );
    for report in [&mut plain, &mut padded] {
        for varying in ["base", "warnings", "seconds", "tokens_per_second", "peak_memory_bytes", "worst"] {
            report.as_object_mut().unwrap().remove(varying);
        }
    }
    assert_eq!(plain, padded);
    let table = eval(directory, &against("padded"));
    let said = "the base model's head has 2112 rows, the other's 2048: the rows beyond stand for no token";
    assert!(says(&stderr(&table), said), "{}", stderr(&table));

    // one of the rows stands for a token after all
    edit_json(&directory.join("padded/tokenizer.json"), |tokenizer| {
        tokenizer["added_tokens"].as_array_mut().unwrap().push(json!({
            "id": 2048, "content": "<extra>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true
        }));
    });
    let refused = eval(directory, &against("padded"));
    assert_eq!(refused.status.code(), Some(1));
    let said = "token 2048 is nothing in q4_0.gguf and \"<extra>\" in padded";
    assert!(says(&stderr(&refused), said), "{}", stderr(&refused));
}

/// The signal comes at some moment of a long evaluation; whenever it does, what is said is incomplete.
#[cfg(target_os = "linux")]
#[test]
fn ctrl_c_ends_with_what_was_measured_so_far() {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    const SIGINT: u32 = 2;
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    let text =
        "He counted the lamps along the quay, and then the ships, and then there was nothing to count. ";
    std::fs::write(directory.join("text.txt"), text.repeat(8_000)).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_slmc"))
        .args(["eval", "model", "--text", "text.txt", "--json"])
        .current_dir(directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // not before slmc catches the signal, which the kernel tells
    let status = format!("/proc/{}/status", child.id());
    let catches = || {
        let status = std::fs::read_to_string(&status).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim();
        u64::from_str_radix(caught, 16).unwrap() & 1 << (SIGINT - 1) != 0
    };
    while !catches() {
        assert!(child.try_wait().unwrap().is_none(), "ended before it could be interrupted");
        std::thread::sleep(Duration::from_millis(5));
    }
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert!(says(&stderr(&output), "interrupted"), "{}", stderr(&output));
    if !output.stdout.is_empty() {
        let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!(report["complete"], false);
        assert!(number(&report, "/windows") < number(&report, "/windows_planned"));
    }
}
