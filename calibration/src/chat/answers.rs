//! Where the assistant's answers stand in a conversation's text.
//!
//! A template may mark them itself with transformers' `{% generation %}`. Else they are found by rendering beginnings of the
//! conversation: an answer is what follows the text of all messages before it, the prompt for an answer included, which is exactly
//! what a model is asked to continue. Templates that write earlier turns anew once there are later ones (leaving out their reasoning,
//! for example) give no common text; then every answer comes in a text of its own, behind the messages as the template
//! writes them at that point.

use std::ops::Range;

use serde_json::Value;

use super::{ChatTemplate, NAME};

/// The template in which marks stand around answers.
pub(super) const MARKED: &str = "marked_chat_template";

/// Filter that puts the marks, where the template has a `generation` block.
pub(super) const FILTER: &str = "slmc_answer";

/// Characters that stand for nothing, in no text that is meant to be exchanged (Unicode's noncharacters).
const MARKS: [char; 2] = ['\u{fdd0}', '\u{fdd1}'];

/// A text and the bytes of it that the assistant says: in order, without the space behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The text.
    pub text: String,
    /// Ranges of bytes, none empty.
    pub answers: Vec<Range<usize>>,
}

pub(super) fn put_marks(answer: &str) -> String {
    format!("{}{answer}{}", MARKS[0], MARKS[1])
}

impl ChatTemplate {
    /// The text of a conversation, or several that together have every answer once, and where the assistant's answers are. None
    /// where the conversation has no answer.
    ///
    /// # Errors
    /// The template's or the engine's message; a template whose prompt for an answer is not how its answers begin.
    pub fn render_answers(&self, messages: &[Value]) -> Result<Vec<Answered>, String> {
        let answers: Vec<usize> =
            messages.iter().enumerate().filter(|(_, message)| is_answer(message)).map(|(n, _)| n).collect();
        let texts = match self.marks_answers {
            true => vec![unmarked(&self.render_as(MARKED, messages, false)?)?],
            false => self.by_beginnings(messages, &answers)?,
        };
        let trimmed = texts.into_iter().map(|Answered { text, answers }| {
            let kept = answers.into_iter().map(|at| at.start..at.start + text[at.clone()].trim_end().len());
            let answers: Vec<_> = kept.filter(|at| !at.is_empty()).collect();
            Answered { text, answers }
        });
        Ok(trimmed.filter(|text| !text.answers.is_empty()).collect())
    }

    fn by_beginnings(&self, messages: &[Value], answers: &[usize]) -> Result<Vec<Answered>, String> {
        let whole = self.render(messages)?;
        let mut alone = Vec::with_capacity(answers.len());
        for &n in answers {
            // The last message may be an answer that the template ends otherwise than one in the middle.
            let text = if n + 1 == messages.len() { whole.clone() } else { self.render(&messages[..=n])? };
            let prompt = self.render_as(NAME, &messages[..n], true)?;
            if !text.starts_with(&prompt) {
                return Err(format!(
                    "answers cannot be told from the rest: the text before message {n} with the prompt for an answer is not how the \
                     text with that message begins; put {{% generation %}} around the answers in the template, or learn from all \
                     tokens"
                ));
            }
            let answer = prompt.len()..text.len();
            alone.push(Answered { text, answers: vec![answer] });
        }
        let one_text = alone.iter().all(|part| whole.starts_with(&part.text));
        Ok(match one_text {
            true => {
                let answers = alone.into_iter().flat_map(|part| part.answers).collect();
                vec![Answered { text: whole, answers }]
            }
            false => alone,
        })
    }
}

fn is_answer(message: &Value) -> bool {
    message.get("role").and_then(Value::as_str) == Some("assistant")
}

/// Takes the marks out of a text.
fn unmarked(marked: &str) -> Result<Answered, String> {
    let (mut text, mut answers, mut open) = (String::with_capacity(marked.len()), Vec::new(), None);
    for character in marked.chars() {
        match (character == MARKS[0], character == MARKS[1], open) {
            (true, _, None) => open = Some(text.len()),
            (_, true, Some(start)) => {
                answers.push(start..text.len());
                open = None;
            }
            (false, false, _) => text.push(character),
            _ => {
                return Err(
                    "the text holds the noncharacters U+FDD0 or U+FDD1, which mark answers here".into()
                );
            }
        }
    }
    Ok(Answered { text, answers })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answers(source: &str, messages: &Value) -> Result<Vec<(String, Vec<String>)>, String> {
        let config = json!({ "bos_token": "<s>", "eos_token": "</s>" });
        let template = ChatTemplate::new(source, Some(&config)).unwrap();
        let texts = template.render_answers(messages.as_array().unwrap())?;
        let parts =
            |text: &Answered| text.answers.iter().map(|at| text.text[at.clone()].to_owned()).collect();
        Ok(texts.iter().map(|text| (text.text.clone(), parts(text))).collect())
    }

    fn conversation() -> Value {
        json!([
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "One?"}, {"role": "assistant", "content": "Two, 수."},
            {"role": "user", "content": "Three?"}, {"role": "assistant", "content": " Four. "},
            {"role": "user", "content": "Five?"},
        ])
    }

    const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}BEGIN{{ m.content + '<|im_end|>' }}END{{ '\\n' }}\
                          {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

    #[test]
    fn marked_and_unmarked_templates_say_the_same() {
        let plain = CHATML.replace("BEGIN", "").replace("END", "");
        let marked = CHATML
            .replace("BEGIN", "{% if m.role == 'assistant' %}{% generation %}")
            .replace("END", "{% endgeneration %}{% else %}{{ m.content + '<|im_end|>' }}{% endif %}");
        let found = answers(&plain, &conversation()).unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0].0.contains("assistant\nTwo, 수.<|im_end|>\n<|im_start|>user"), "{}", found[0].0);
        assert_eq!(found[0].1, ["Two, 수.<|im_end|>", " Four. <|im_end|>"]);
        assert_eq!(answers(&marked, &conversation()).unwrap(), found);
    }

    #[test]
    fn answers_that_later_turns_change_come_alone() {
        // as reasoning models' templates: only the last answer keeps what stands in front of the bar
        let source = "{% for m in messages %}{{ m.role }}: {% if m.role == 'assistant' and not loop.last %}\
                      {{ m.content.split('|')[-1] }}{% else %}{{ m.content }}{% endif %};{% endfor %}\
                      {% if add_generation_prompt %}assistant: {% endif %}";
        let messages = json!([
            {"role": "user", "content": "a"}, {"role": "assistant", "content": "why|b"},
            {"role": "user", "content": "c"}, {"role": "assistant", "content": "how|d"},
        ]);
        let expected = [
            ("user: a;assistant: why|b;".to_owned(), vec!["why|b;".to_owned()]),
            ("user: a;assistant: b;user: c;assistant: how|d;".to_owned(), vec!["how|d;".to_owned()]),
        ];
        assert_eq!(answers(source, &messages).unwrap(), expected);
    }

    #[test]
    fn what_has_no_answers_has_none_and_what_hides_them_is_refused() {
        let plain = CHATML.replace("BEGIN", "").replace("END", "");
        assert_eq!(answers(&plain, &json!([{"role": "user", "content": "a"}])).unwrap(), []);
        let other_prompt = plain.replace("assistant\\n", "model\\n");
        let found = answers(&other_prompt, &conversation()).unwrap_err();
        assert!(found.contains("message 2") && found.contains("{% generation %}"), "{found}");
        let marked = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}";
        assert!(answers(marked, &json!([{"role": "assistant", "content": "\u{fdd1}"}])).is_err());
    }
}
