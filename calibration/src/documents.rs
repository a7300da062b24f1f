//! Calibration text as documents.

use std::ops::Range;
use std::path::Path;

use serde_json::Value;

use crate::chat::{Answered, transcript};
use crate::{CalibrationError, ChatTemplate};

/// How the spelling of a special token in a document is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextKind {
    /// As text.
    Plain,
    /// As the token: a chat template put it there.
    Markup,
}

/// One stretch of text that belongs together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The text; not empty when it comes from a reader of this module.
    pub text: String,
    /// Whether a chat template made it.
    pub kind: TextKind,
    /// The bytes that a model is to learn to say; `None` for all. Training alone asks for it.
    pub answers: Option<Vec<Range<usize>>>,
}

impl Document {
    /// Plain text.
    pub fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), kind: TextKind::Plain, answers: None }
    }

    /// What a chat template made, of which all is to be learned.
    pub fn markup(text: impl Into<String>) -> Self {
        Self { text: text.into(), kind: TextKind::Markup, answers: None }
    }
}

/// Reads a file: JSON lines if its name ends in `.jsonl`, else plain text.
///
/// A plain text file is **one** document, whatever blank lines it has: in most corpora they separate
/// paragraphs, not documents.
pub fn read(path: &Path, template: Option<&ChatTemplate>) -> Result<Vec<Document>, CalibrationError> {
    read_by(path, |messages| match template {
        None => Ok(None),
        Some(template) => template.render(messages).map(|text| Some(vec![Document::markup(text)])),
    })
}

/// Reads a file as [`read`] does, to train on: the assistant's answers are what is to be learned of conversations. Those without an
/// answer are left out.
///
/// # Errors
/// As [`read`]; a template whose answers cannot be told from the rest.
pub fn read_answers(path: &Path, template: Option<&ChatTemplate>) -> Result<Vec<Document>, CalibrationError> {
    read_by(path, |messages| template.map(|template| answers(template, messages)).transpose())
}

/// A conversation as documents whose answers are marked.
pub(crate) fn answers(template: &ChatTemplate, messages: &[Value]) -> Result<Vec<Document>, String> {
    let texts = template.render_answers(messages)?.into_iter();
    Ok(texts
        .map(|Answered { text, answers }| Document { answers: Some(answers), ..Document::markup(text) })
        .collect())
}

/// Reads a file as [`read`] does, conversations as plain transcripts.
///
/// # Errors
/// It cannot be read, is not UTF-8, or has a line that is no record.
pub fn read_to_measure(path: &Path) -> Result<Vec<Document>, CalibrationError> {
    read_by(path, |messages| Ok(Some(vec![Document::plain(transcript(messages))])))
}

fn read_by(
    path: &Path,
    render: impl Fn(&[Value]) -> Result<Option<Vec<Document>>, String>,
) -> Result<Vec<Document>, CalibrationError> {
    let text = read_text(path)?;
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("jsonl")) {
        Ok(parse_jsonl(&text, path, render)?.into_iter().flatten().collect())
    } else if text.is_empty() {
        Ok(Vec::new())
    } else {
        Ok(vec![Document::plain(text)])
    }
}

/// Reads a file as it is.
///
/// # Errors
/// It cannot be read, or is not UTF-8.
pub fn read_text(path: &Path) -> Result<String, CalibrationError> {
    let bytes =
        std::fs::read(path).map_err(|source| CalibrationError::Io { path: path.to_path_buf(), source })?;
    String::from_utf8(bytes).map_err(|e| CalibrationError::NotUtf8 {
        path: path.to_path_buf(),
        valid_up_to: e.utf8_error().valid_up_to(),
    })
}

/// Parses JSON lines: each an object with a string `text`, or a list `messages` of
/// `{"role": …, "content": …}` that `render` turns into documents (`None`: it has no template). Gives the documents of every record;
/// blank lines are passed over, and so are records with an empty text.
pub(crate) fn parse_jsonl(
    text: &str,
    path: &Path,
    render: impl Fn(&[Value]) -> Result<Option<Vec<Document>>, String>,
) -> Result<Vec<Vec<Document>>, CalibrationError> {
    let mut records = Vec::new();
    for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let (path, line_number) = (path.to_path_buf(), n + 1);
        let bad = |reason: String| CalibrationError::Record { path: path.clone(), line: line_number, reason };
        let record: Value = serde_json::from_str(line).map_err(|e| bad(e.to_string()))?;
        let mut documents = match (record.get("text"), record.get("messages")) {
            (Some(Value::String(text)), None) => vec![Document::plain(text.as_str())],
            (None, Some(Value::Array(messages))) => {
                check_messages(messages).map_err(bad)?;
                match render(messages) {
                    Ok(Some(documents)) => documents,
                    Ok(None) => return Err(CalibrationError::NoChatTemplate { path, line: line_number }),
                    Err(reason) => {
                        return Err(CalibrationError::ChatRender { path, line: line_number, reason });
                    }
                }
            }
            (Some(_), Some(_)) => return Err(bad("both \"text\" and \"messages\"; expected one".into())),
            _ => return Err(bad("expected an object with a string \"text\" or a list \"messages\"".into())),
        };
        documents.retain(|document| !document.text.is_empty());
        if !documents.is_empty() {
            records.push(documents);
        }
    }
    Ok(records)
}

fn check_messages(messages: &[Value]) -> Result<(), String> {
    if messages.is_empty() {
        return Err("\"messages\" is empty".into());
    }
    match messages.iter().position(|m| !m.get("role").is_some_and(Value::is_string)) {
        Some(n) => Err(format!("message {n} has no string \"role\"")),
        None => Ok(()),
    }
}
