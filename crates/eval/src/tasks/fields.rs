//! Fields of an item, or what is wrong with them.

use serde_json::{Map, Value};

/// An item as it stands in its file.
pub(super) type Fields = Map<String, Value>;

pub(super) fn field<'a>(fields: &'a Fields, name: &str) -> Result<&'a Value, String> {
    fields.get(name).ok_or_else(|| format!("no field `{name}`"))
}

pub(super) fn text<'a>(fields: &'a Fields, name: &str) -> Result<&'a str, String> {
    field(fields, name)?.as_str().ok_or_else(|| format!("field `{name}` is not text"))
}

/// Texts that may be chosen from: at least one, none of them empty.
pub(super) fn choices(value: &Value, name: &str) -> Result<Vec<String>, String> {
    let list = value.as_array().ok_or_else(|| format!("field `{name}` is not a list"))?;
    if list.is_empty() {
        return Err(format!("field `{name}` is an empty list"));
    }
    let text = |value: &Value| match value.as_str() {
        Some("") => Err(format!("field `{name}` holds an empty text")),
        Some(text) => Ok(text.to_owned()),
        None => Err(format!("field `{name}` holds something that is not text")),
    };
    list.iter().map(text).collect()
}

/// A field that holds one non-empty text to choose.
pub(super) fn choice(fields: &Fields, name: &str) -> Result<String, String> {
    match text(fields, name)? {
        "" => Err(format!("field `{name}` is empty")),
        text => Ok(text.to_owned()),
    }
}

/// The index of one of `count` answers: a number, or its digits as text.
pub(super) fn index(fields: &Fields, name: &str, count: usize) -> Result<usize, String> {
    let value = field(fields, name)?;
    let number = match value {
        Value::String(digits) => digits.parse().ok(),
        number => number.as_u64(),
    };
    let number = number.ok_or_else(|| format!("field `{name}` is {value}, expected a number"))?;
    check(number, name, count)
}

/// `number` as an index of one of `count` answers.
pub(super) fn check(number: u64, name: &str, count: usize) -> Result<usize, String> {
    match usize::try_from(number) {
        Ok(number) if number < count => Ok(number),
        _ => Err(format!("field `{name}` is {number}, but there are answers 0 to {} only", count - 1)),
    }
}
