//! `slmc generate`: the text transformers writes, streamed and as JSON, and what is refused.

mod common;

use std::path::Path;

use common::{copy_tiny, says, slmc, stderr, stdout, tiny};
use serde_json::{Value, json};

fn generate(directory: &Path, arguments: &[&str]) -> Value {
    let output = slmc(directory, [&["generate"], arguments, &["--json"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

/// See `golden/make_greedy.py`.
fn golden() -> Vec<Value> {
    serde_json::from_str(include_str!("golden/greedy.json")).unwrap()
}

#[test]
fn greedy_text_is_that_of_transformers() {
    let directory = tempfile::tempdir().unwrap();
    let model = tiny();
    let model = model.to_str().unwrap();
    for case in golden() {
        let (prompt, tokens) = (case["prompt"].as_str().unwrap(), case["ids"].as_array().unwrap().len());
        let arguments = [model, "--prompt", prompt, "--max-tokens", &tokens.to_string()];
        let found = generate(directory.path(), &arguments);
        for field in ["prompt_ids", "ids", "text"] {
            assert_eq!(found[field], case[field], "{prompt}: {field}");
        }
        assert_eq!(found["prompt_tokens"], case["prompt_ids"].as_array().unwrap().len());
        assert_eq!(found["stop"], "length");
        // and streamed, from a file
        std::fs::write(directory.path().join("prompt.txt"), format!("{prompt}\n")).unwrap();
        let arguments =
            ["generate", model, "--prompt-file", "prompt.txt", "--max-tokens", &tokens.to_string()];
        let output = slmc(directory.path(), arguments);
        assert_eq!(stdout(&output), format!("{}\n", case["text"].as_str().unwrap()));
    }
}

#[test]
fn a_gguf_file_continues_beside_its_original() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    let output = slmc(directory, ["convert", "model", "--dtype", "f32", "--output", "f32.gguf"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let prompt = golden()[1]["prompt"].as_str().unwrap().to_owned();
    let arguments = ["f32.gguf", "--base", "model", "--prompt", &prompt, "--max-tokens", "12"];
    let found = generate(directory, &arguments);
    assert_eq!(found["base"]["ids"], json!(golden()[1]["ids"].as_array().unwrap()[..12]));
    // the same weights, only keys and values in half precision
    assert_eq!(found["ids"], found["base"]["ids"]);
    assert_eq!(found["prompt_ids"], found["base"]["prompt_ids"]);
    let text = stdout(&slmc(directory, [&["generate"], &arguments[..]].concat()));
    let expected = found["text"].as_str().unwrap();
    assert_eq!(text, format!("── model\n{expected}\n── f32.gguf\n{expected}\n"));
}

#[test]
fn sampled_text_depends_on_the_seed_alone() {
    let directory = tempfile::tempdir().unwrap();
    let model = tiny();
    let text = |seed: &str, threads: &str| {
        let sampling = ["--temperature", "1.2", "--top-k", "50", "--top-p", "0.95", "--min-p", "0.01"];
        let rest = ["--repeat-penalty", "1.1", "--seed", seed, "--threads", threads, "--max-tokens", "30"];
        let arguments = [&[model.to_str().unwrap(), "--prompt", "The"], &sampling[..], &rest[..]].concat();
        generate(directory.path(), &arguments)["text"].as_str().unwrap().to_owned()
    };
    assert_eq!(text("1", "1"), text("1", "2"));
    assert_ne!(text("1", "1"), text("2", "1"));
}

#[test]
fn text_ends_at_the_end_token_and_chats_go_through_the_template() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    copy_tiny(&directory.join("model"));
    let arguments = ["model", "--prompt", "The wool", "--max-tokens", "20"];
    let refused = slmc(directory, [&["generate"], &arguments[..], &["--chat"]].concat());
    assert_eq!(refused.status.code(), Some(1));
    assert!(says(&stderr(&refused), "no chat template; leave out --chat"), "{}", stderr(&refused));

    let template = "{% for m in messages %}{{ bos_token }}{{ m.content }} market{% endfor %}{% if \
                    add_generation_prompt %} has{% endif %}";
    std::fs::write(directory.join("model/chat_template.jinja"), template).unwrap();
    let chat = generate(directory, &[&arguments[..], &["--chat"]].concat());
    let spelled = ["model", "--prompt", "<|endoftext|>The wool market has", "--max-tokens", "20"];
    assert_eq!(chat["prompt_ids"], generate(directory, &spelled)["prompt_ids"]);
    let ids: Vec<u64> = chat["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect();
    assert_eq!(ids.len(), 20);

    // the first of these tokens that is new made an end token: the text stops before it
    let end = (1..ids.len()).find(|&i| !ids[..i].contains(&ids[i])).unwrap();
    let config = json!({ "eos_token_id": [0, ids[end]] });
    std::fs::write(directory.join("model/generation_config.json"), config.to_string()).unwrap();
    let ended = generate(directory, &[&arguments[..], &["--chat"]].concat());
    assert_eq!(ended["stop"], "end_of_text");
    assert_eq!(ended["ids"], json!(ids[..end]));
}

#[test]
fn what_cannot_be_continued_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let model = tiny();
    let long = "word ".repeat(1200);
    for (arguments, code, message) in [
        (&["--prompt", "a", "--temperature=-1"][..], 2, "--temperature -1: expected 0 or more"),
        (&["--prompt", "a", "--top-p", "1.5"], 2, "expected a share above 0, at most 1"),
        (&["--prompt", "a", "--repeat-penalty", "0"], 2, "expected a number above 0"),
        (&["--prompt", "a", "--prompt-file", "b"], 2, "cannot be used with"),
        (&[], 2, "--prompt"),
        (&["--prompt-file", "missing.txt"], 1, "missing.txt"),
        (&["--prompt", &long], 1, "leaves no room in the model's context of 1024"),
    ] {
        let output = slmc(directory.path(), [&["generate", model.to_str().unwrap()], arguments].concat());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        assert!(says(&stderr(&output), message), "{arguments:?}: {}", stderr(&output));
    }
}
