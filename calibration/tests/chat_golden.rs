//! Chat templates render as transformers renders them. `chat_golden/make.py` made the cases.

use serde_json::{Value, json};
use slmc_calibration::ChatTemplate;

#[test]
fn templates_render_as_transformers_renders_them() {
    let golden: Value = serde_json::from_str(include_str!("chat_golden/cases.json")).unwrap();
    let mut wrong = Vec::new();
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() >= 98);
    for case in cases {
        let (name, label) = (case["template"].as_str().unwrap(), case["messages"].as_str().unwrap());
        let template =
            ChatTemplate::new(golden["templates"][name].as_str().unwrap(), Some(&golden["tokens"])).unwrap();
        let tools = golden["tools"].as_array().filter(|_| case["tools"] == true).map(Vec::as_slice);
        let messages = golden["conversations"][label].as_array().unwrap();
        let found = template.render_with(messages, tools, case["prompt"] == true);
        let right = match case.get("expected") {
            Some(expected) => found.as_deref() == Ok(expected.as_str().unwrap()),
            None => found.is_err(),
        };
        if !right {
            wrong.push(format!("{name}, {label}:\n found   {found:?}\n expected {case}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// A template's own message comes through.
#[test]
fn refusals_carry_the_templates_words() {
    let template = ChatTemplate::new("{{ raise_exception('Roles must alternate: ' ~ 'x') }}", None).unwrap();
    let found = template.render(&[json!({"role": "user"})]).unwrap_err();
    assert!(found.starts_with("Roles must alternate: x"), "{found}");
}
