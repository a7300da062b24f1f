//! A file of items.

use serde_json::Value;

use super::format::Format;
use super::item::Item;

/// The items of a file, in its order.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskFile {
    /// Their layout, one for all.
    pub format: Format,
    /// The items, at least one.
    pub items: Vec<Item>,
    /// The line that each stands in, from 1.
    pub lines: Vec<usize>,
}

/// A line that is no item.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct LineError {
    /// Which, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

/// Reads items from JSON lines; empty lines are passed over. Without a `format` the first item's fields tell it.
///
/// # Errors
/// The first line that is no item of the layout; a file without any.
pub fn read(text: &str, format: Option<Format>) -> Result<TaskFile, LineError> {
    let mut file = TaskFile { format: format.unwrap_or(Format::Plain), items: Vec::new(), lines: Vec::new() };
    for (line, json) in text.lines().enumerate().filter(|(_, json)| !json.trim().is_empty()) {
        let line = line + 1;
        let wrong = |reason: String| LineError { line, reason };
        let fields = match serde_json::from_str(json) {
            Ok(Value::Object(fields)) => fields,
            other => return Err(wrong(no_object(text, other.err()))),
        };
        if file.items.is_empty() && format.is_none() {
            file.format = Format::of(&fields).ok_or_else(|| {
                let names: Vec<_> = fields.keys().map(String::as_str).collect();
                let known = Format::ALL.map(Format::name).join(", ");
                wrong(format!(
                    "fields {} are of no known layout ({known}); rename them to `context`, `choices` (a list) and `answer` (the \
                     right one's place, from 0)",
                    names.join(", ")
                ))
            })?;
        }
        let item = file.format.item(&fields);
        file.items
            .push(item.map_err(|reason| wrong(format!("no item of layout {}: {reason}", file.format)))?);
        file.lines.push(line);
    }
    if file.items.is_empty() {
        return Err(LineError { line: 1, reason: format!("no item in the file; {JSON_LINES}") });
    }
    Ok(file)
}

/// What the file should be.
const JSON_LINES: &str = "tasks are JSON lines, one item a line, for example \
                          {\"context\": \"The sky is\", \"choices\": [\"blue\", \"square\"], \"answer\": 0}";

/// What to do about a line that is not an object, by what the whole text is.
fn no_object(text: &str, error: Option<serde_json::Error>) -> String {
    match (serde_json::from_str(text), error) {
        (Ok(Value::Array(_)), _) => {
            "the file is one JSON list; `jq -c '.[]' FILE > items.jsonl` puts each item on a line of its own"
                .into()
        }
        (Ok(Value::Object(_)), _) => {
            "the file is one JSON object over several lines; `jq -c . FILE > items.jsonl` makes a line of it"
                .into()
        }
        (_, Some(error)) => format!("not JSON: {error}; {JSON_LINES}"),
        (_, None) => format!("not a JSON object; {JSON_LINES}"),
    }
}
