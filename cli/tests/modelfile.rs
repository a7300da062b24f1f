//! `--modelfile`: what Ollama is told. `golden/modelfile/make.py` made the cases, with transformers and Go's text/template.

mod common;

use std::path::Path;

use common::{copy_tiny, says, slmc, stderr, stdout};
use serde_json::{Value, json};

const BOS: &str = "<|endoftext|>";

fn cases() -> Vec<Value> {
    serde_json::from_str(include_str!("golden/modelfile/cases.json")).unwrap()
}

/// The bundled model with a case's chat template and settings.
fn model(case: &Value, directory: &Path) {
    copy_tiny(directory);
    let write = |file: &str, json: &Value| std::fs::write(directory.join(file), json.to_string()).unwrap();
    let mut config = json!({"bos_token": BOS, "eos_token": BOS});
    if case["jinja"] != "" {
        config["chat_template"] = case["jinja"].clone();
    }
    write("tokenizer_config.json", &config);
    match &case["generation"] {
        Value::Null => std::fs::remove_file(directory.join("generation_config.json")).unwrap(),
        generation => write("generation_config.json", generation),
    }
    if case["adds_bos"] == true {
        let path = directory.join("tokenizer.json");
        let mut tokenizer: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let text = |name, n| json!({"Sequence": {"id": name, "type_id": n}});
        tokenizer["post_processor"] = json!({"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": BOS, "type_id": 0}}, text("A", 0)], "pair": [text("A", 0), text("B", 1)],
            "special_tokens": {BOS: {"id": BOS, "ids": [0], "tokens": [BOS]}}});
        write("tokenizer.json", &tokenizer);
    }
}

#[test]
fn modelfiles_are_as_recorded() {
    let cases = cases();
    assert!(cases.len() >= 12);
    for case in &cases {
        let directory = tempfile::tempdir().unwrap();
        model(case, &directory.path().join("model"));
        let output = slmc(directory.path(), ["convert", "model", "--modelfile", "--output", "model.gguf"]);
        assert!(output.status.success(), "{}: {}", case["name"], stderr(&output));
        assert!(stdout(&output).contains("ollama create NAME -f model.Modelfile"), "{}", stdout(&output));
        let written = std::fs::read_to_string(directory.path().join("model.Modelfile")).unwrap();
        assert_eq!(written, case["modelfile"].as_str().unwrap(), "{}", case["name"]);
        let has_template = !case["template"].is_null();
        assert_eq!(
            says(&stderr(&output), "has no TEMPLATE"),
            !has_template && case["jinja"] != "",
            "{}",
            case["name"]
        );
    }
}

/// What Go made of the templates is what transformers made of the models' own, but for the beginning that Ollama adds itself.
#[test]
fn templates_say_what_the_model_s_own_say() {
    let mut compared = 0;
    for case in cases() {
        for conversation in case["conversations"].as_array().unwrap() {
            let own = conversation["transformers"].as_str().unwrap();
            let own = if case["adds_bos"] == true { own.strip_prefix(BOS).unwrap() } else { own };
            assert_eq!(conversation["go"].as_str().unwrap(), own, "{}", case["name"]);
            compared += 1;
        }
    }
    assert!(compared >= 40, "{compared}");
}

#[test]
fn quantizing_writes_one_too_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    copy_tiny(&directory.path().join("model"));
    let arguments = [
        "quantize",
        "model",
        "--method",
        "rtn",
        "--type",
        "q8_0",
        "--no-eval",
        "--modelfile",
        "--output",
        "q.gguf",
        "--json",
    ];
    let output = slmc(directory.path(), arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    let outcome: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(outcome["modelfile"], "q.Modelfile");
    let text = std::fs::read_to_string(directory.path().join("q.Modelfile")).unwrap();
    assert!(text.contains("\nFROM ./q.gguf\n") && text.contains("PARAMETER stop"), "{text}");
    let output = slmc(directory.path(), ["quantize", "model", "--group-size", "32", "--modelfile"]);
    assert_eq!(output.status.code(), Some(2));
}

/// Every command that writes a GGUF file can write one, the same but for the file's name.
#[test]
fn pruning_and_training_write_one_too() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    let written = |name: &str, arguments: &[&str]| {
        let file = format!("{name}.gguf");
        let output = slmc(directory, [arguments, &["--modelfile", "--output", &file, "--json"]].concat());
        assert!(output.status.success(), "{name}: {}", stderr(&output));
        let outcome: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(outcome["modelfile"], format!("{name}.Modelfile"));
        let text = std::fs::read_to_string(directory.join(format!("{name}.Modelfile"))).unwrap();
        assert!(text.contains(&format!("FROM ./{name}.gguf\n")), "{text}");
        text.replace(name, "NAME")
    };
    let quantized =
        written("quantized", &["quantize", "model", "--method", "rtn", "--type", "q8_0", "--no-eval"]);
    let sparse = ["prune", "model", "--method", "magnitude", "--sparsity", "0.5", "--no-eval"];
    assert_eq!(written("sparse", &sparse), quantized);
    let smaller = ["prune", "model", "--structured", "--importance", "magnitude", "--channels", "448"];
    assert_eq!(written("smaller", &[&smaller[..], &["--no-solve", "--no-eval"]].concat()), quantized);
    let training =
        ["distill", "--teacher", "model", "--student", "quantized.gguf", "--text", "bundled:english"];
    let length = ["--steps", "2", "--batch-size", "2", "--seq-len", "32"];
    assert_eq!(written("trained", &[&training[..], &length].concat()), quantized);
    // none beside a checkpoint
    for (arguments, code) in [
        (&[&sparse[..], &["--output", "pruned"]].concat(), 2),
        (&[&training[..], &["--lora-rank", "2", "--output", "adapters"]].concat(), 1),
    ] {
        let output = slmc(directory, [&arguments[..], &["--modelfile"]].concat());
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        assert!(says(&stderr(&output), "--modelfile"), "{}", stderr(&output));
    }
}
