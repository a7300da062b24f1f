//! Chat templates, rendered as transformers does.

mod answers;
mod date;
mod python_json;
mod python_text;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value as Jinja};
use minijinja::{Environment, Error, ErrorKind};
use serde_json::Value;

pub use answers::Answered;
pub use date::Date;

use crate::CalibrationError;

/// Steps a template may take on one conversation: far more than an honest one needs, and an end to one that
/// does not.
const FUEL: u64 = 20_000_000;

const NAME: &str = "chat_template";

/// A model's chat template: Jinja source that turns messages into the text the model was trained on.
///
/// The environment is transformers' (`chat_template_utils.py`): blocks trimmed and left-stripped, `break` and
/// `continue`, Python's methods on strings, lists and dictionaries, `raise_exception`, `strftime_now`,
/// `tojson` as Python writes JSON, `{% generation %}` (which only [`render_answers`](Self::render_answers) heeds), and the special tokens of
/// `tokenizer_config.json` by their names (`bos_token`, `eos_token`, …). One departure: `strftime_now` tells
/// a fixed [`Date`], as the same calibration text must give the same bytes tomorrow.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    special_tokens: Vec<(String, String)>,
    /// Whether the template says itself what the assistant's answers are.
    marks_answers: bool,
}

impl ChatTemplate {
    /// Compiles a template. `tokenizer_config` is the contents of `tokenizer_config.json`.
    pub fn new(source: &str, tokenizer_config: Option<&Value>) -> Result<Self, CalibrationError> {
        Self::with_date(source, tokenizer_config, Date::DEFAULT)
    }

    /// As [`new`](Self::new), with another date for `strftime_now`.
    pub fn with_date(
        source: &str,
        tokenizer_config: Option<&Value>,
        date: Date,
    ) -> Result<Self, CalibrationError> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|e| CalibrationError::ChatTemplate { reason: describe(&e) })?);
        environment.set_fuel(Some(FUEL));
        environment.set_formatter(python_text::write);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<Jinja, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", move |format: &str| {
            date.format(format).map_err(|reason| Error::new(ErrorKind::InvalidOperation, reason))
        });
        environment.add_filter("tojson", |value: &Jinja, options: Kwargs| -> Result<Jinja, Error> {
            let options = json_options(&options)?;
            let json = python_json::to_string(value, &options)
                .map_err(|e| Error::new(ErrorKind::BadSerialization, e.to_string()))?;
            Ok(Jinja::from_safe_string(json))
        });
        environment
            .add_filter(answers::FILTER, |answer: &str| Jinja::from_safe_string(answers::put_marks(answer)));
        let plain = replace_generation_tags(source, "if true", "endif");
        let marked = replace_generation_tags(source, &format!("filter {}", answers::FILTER), "endfilter");
        let marks_answers = marked != source;
        for (name, source) in [(NAME, plain), (answers::MARKED, marked)] {
            environment
                .add_template_owned(name, source)
                .map_err(|e| CalibrationError::ChatTemplate { reason: describe(&e) })?;
        }
        let special_tokens = tokenizer_config.map(special_tokens).unwrap_or_default();
        Ok(Self { environment, special_tokens, marks_answers })
    }

    /// The text of a conversation, without a prompt for a further answer.
    ///
    /// # Errors
    /// The template's or the engine's message.
    pub fn render(&self, messages: &[Value]) -> Result<String, String> {
        self.render_as(NAME, messages, false)
    }

    /// The text of a conversation with the beginning of the answer that the model is to give.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub fn render_prompt(&self, messages: &[Value]) -> Result<String, String> {
        self.render_as(NAME, messages, true)
    }

    fn render_as(
        &self,
        template: &str,
        messages: &[Value],
        add_generation_prompt: bool,
    ) -> Result<String, String> {
        let mut context: Vec<(String, Jinja)> = self
            .special_tokens
            .iter()
            .map(|(name, token)| (name.clone(), Jinja::from(token.as_str())))
            .collect();
        context.push(("messages".into(), Jinja::from(Serde(messages))));
        context.push(("add_generation_prompt".into(), Jinja::from(add_generation_prompt)));
        context.push(("tools".into(), Jinja::from(())));
        context.push(("documents".into(), Jinja::from(())));
        let template = self.environment.get_template(template).map_err(|e| describe(&e))?;
        template.render(Jinja::from_pairs(context)).map_err(|e| describe(&e))
    }
}

/// The keyword arguments of `tojson`, with transformers' defaults.
fn json_options(arguments: &Kwargs) -> Result<python_json::Options, Error> {
    let separators: Option<Vec<String>> = arguments.get("separators")?;
    let separators = match separators.as_deref() {
        None => None,
        Some([item, key]) => Some((item.clone(), key.clone())),
        Some(_) => return Err(Error::new(ErrorKind::InvalidOperation, "tojson: separators must be two")),
    };
    let options = python_json::Options {
        indent: arguments.get("indent")?,
        ensure_ascii: arguments.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        separators,
        sort_keys: arguments.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    arguments.assert_all_used()?;
    Ok(options)
}

/// The strings among the configuration's `*_token` fields; a token may also be an object with its `content`.
fn special_tokens(tokenizer_config: &Value) -> Vec<(String, String)> {
    let fields = tokenizer_config.as_object().into_iter().flatten();
    fields
        .filter(|(name, _)| name.ends_with("_token"))
        .filter_map(|(name, value)| {
            let token = value.as_str().or_else(|| value.get("content")?.as_str())?;
            Some((name.clone(), token.to_owned()))
        })
        .collect()
}

/// Puts another block in the place of transformers' own, which marks the assistant's words.
fn replace_generation_tags(source: &str, begin: &str, end: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let (before, tag, after) =
            (&rest[..start], &rest[start..start + length + 2], &rest[start + length + 2..]);
        out.push_str(before);
        let inner = tag[2..tag.len() - 2].trim_matches(['-', '+']).trim();
        match inner {
            "generation" => out.push_str(&tag.replace("generation", begin)),
            "endgeneration" => out.push_str(&tag.replace("endgeneration", end)),
            _ => out.push_str(tag),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The message with its line, without the source excerpt of the engine's long form.
fn describe(error: &Error) -> String {
    let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.line() {
        Some(line) => format!("{what} (template line {line})"),
        None => what,
    }
}

/// A conversation as a plain transcript, for models without a chat template.
pub(crate) fn transcript(messages: &[Value]) -> String {
    let turns = messages.iter().map(|message| {
        let role = message.get("role").and_then(Value::as_str).unwrap_or_default();
        let content = message.get("content").and_then(Value::as_str).unwrap_or_default();
        let mut letters = role.chars();
        let capitalized: String =
            letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect();
        format!("{capitalized}: {content}\n")
    });
    turns.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render(source: &str, messages: Value) -> Result<String, String> {
        let config = json!({ "bos_token": "<s>", "eos_token": { "content": "</s>", "lstrip": false } });
        ChatTemplate::new(source, Some(&config)).unwrap().render(messages.as_array().unwrap())
    }

    #[test]
    fn special_tokens_trimming_and_python_methods() {
        let source = "{{ bos_token }}{% for m in messages %}\n    {% if m['role'].startswith('us') %}\n\
                      [{{ m.content.strip() | upper }}]\n    {% else %}\n{{ m.content }}{{ eos_token }}\n    \
                      {% endif %}\n{% endfor %}\n{% if add_generation_prompt %}assistant:{% endif %}";
        let messages = json!([{"role": "user", "content": " hi "}, {"role": "assistant", "content": "yes"}]);
        assert_eq!(render(source, messages).unwrap(), "<s>[HI]\nyes</s>\n");
    }

    #[test]
    fn prompts_begin_the_answer() {
        let source = "{% for m in messages %}{{ m.content }};{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}";
        let messages = [json!({"role": "user", "content": "hi"})];
        let template = ChatTemplate::new(source, None).unwrap();
        assert_eq!(template.render(&messages).unwrap(), "hi;");
        assert_eq!(template.render_prompt(&messages).unwrap(), "hi;assistant:");
    }

    #[test]
    fn exceptions_carry_their_message() {
        let found = render("{{ raise_exception('roles must alternate') }}", json!([])).unwrap_err();
        assert_eq!(found, "roles must alternate (template line 1)");
    }

    #[test]
    fn the_date_is_fixed() {
        assert_eq!(render("{{ strftime_now('%d %b %Y') }}", json!([])).unwrap(), "26 Jul 2024");
    }

    #[test]
    fn json_is_pythons() {
        let messages = json!([{"role": "x", "content": {"b": [1, "é<"], "a": null}}]);
        assert_eq!(
            render("{{ messages[0].content | tojson }}", messages.clone()).unwrap(),
            r#"{"b": [1, "é<"], "a": null}"#
        );
        assert_eq!(
            render("{{ messages[0].content | tojson(indent=2) }}", messages.clone()).unwrap(),
            "{\n  \"b\": [\n    1,\n    \"é<\"\n  ],\n  \"a\": null\n}"
        );
        let compact =
            "{{ messages[0].content | tojson(separators=(',', ':'), sort_keys=true, ensure_ascii=true) }}";
        assert_eq!(render(compact, messages).unwrap(), r#"{"a":null,"b":[1,"\u00e9<"]}"#);
    }

    #[test]
    fn generation_blocks_are_passed_over() {
        let source =
            "{% for m in messages %}{%- generation -%} {{ m.content }} {%- endgeneration %};{% endfor %}";
        let messages = json!([{"role": "a", "content": "x"}, {"role": "b", "content": "y"}]);
        assert_eq!(render(source, messages).unwrap(), "x;y;");
    }

    #[test]
    fn endless_templates_end() {
        let source =
            "{% for a in range(90000) %}{% for b in range(90000) %}{% set c = b %}{% endfor %}{% endfor %}";
        assert!(render(source, json!([])).unwrap_err().contains("fuel"));
    }

    #[test]
    fn broken_templates_are_refused() {
        let found = ChatTemplate::new("{% for x in %}", None).unwrap_err();
        assert!(matches!(found, CalibrationError::ChatTemplate { .. }), "{found}");
    }

    #[test]
    fn transcripts() {
        let messages = json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]);
        assert_eq!(transcript(messages.as_array().unwrap()), "User: Hi\n\nAssistant: Hello\n");
    }
}
