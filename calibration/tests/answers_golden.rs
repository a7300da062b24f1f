//! What is learned of a conversation is what transformers' mask of the assistant's tokens has. `answers_golden/make.py` made the cases.

use std::path::Path;

use serde_json::Value;
use slmc_calibration::{ChatTemplate, TextSource, Tokenizer, tokenize_to_train};

#[test]
fn learned_tokens_are_those_of_transformers_mask() {
    let golden: Value = serde_json::from_str(include_str!("answers_golden/cases.json")).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tiny/tokenizer.json");
    let tokenizer = Tokenizer::from_file(&path).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("chat.jsonl");
    let mut compared = 0;
    for case in golden["cases"].as_array().unwrap() {
        let line = serde_json::json!({ "messages": case["messages"] });
        std::fs::write(&file, format!("{line}\n")).unwrap();
        for form in ["plain", "marked"] {
            let template = ChatTemplate::new(case[form].as_str().unwrap(), Some(&golden["tokens"])).unwrap();
            let documents = TextSource::File(file.clone()).to_train(Some(&template)).unwrap();
            let tokens = tokenize_to_train(&documents, &tokenizer).unwrap();
            assert_eq!(tokens.len(), 1, "{case}");
            let mut expected: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
            let mask: Vec<u32> = serde_json::from_value(case["mask"].clone()).unwrap();
            let mut learned: Vec<bool> = mask.iter().map(|&one| one == 1).collect();
            if tokenizer.bos() == Some(expected[0]) {
                expected.remove(0);
                learned.remove(0);
            }
            assert_eq!(tokens[0].ids, expected, "{} {form}", case["name"]);
            assert_eq!(tokens[0].learned.as_ref(), Some(&learned), "{} {form}", case["name"]);
            assert!(learned.contains(&true) && learned.contains(&false));
            compared += 1;
        }
    }
    assert_eq!(compared, 8);
}
