//! Typed access to JSON fields, with errors that name them.

use serde_json::{Map, Value};

use super::error::VocabularyError;

/// A field that may be absent or null.
pub(super) fn optional<'a>(object: &'a Value, field: &str) -> Option<&'a Value> {
    object.get(field).filter(|v| !v.is_null())
}

pub(super) fn wrong(
    field: impl Into<String>,
    expected: &'static str,
    found: Option<&Value>,
) -> VocabularyError {
    let found = match found {
        None | Some(Value::Null) => "nothing".to_owned(),
        Some(Value::Object(_)) => "an object".to_owned(),
        Some(Value::Array(_)) => "an array".to_owned(),
        Some(scalar) => scalar.to_string(),
    };
    VocabularyError::WrongField { field: field.into(), expected, found }
}

pub(super) fn object<'a>(value: &'a Value, field: &str) -> Result<&'a Map<String, Value>, VocabularyError> {
    let found = value.get(field);
    found.and_then(Value::as_object).ok_or_else(|| wrong(field, "an object", found))
}

pub(super) fn array<'a>(value: &'a Value, field: &str) -> Result<&'a [Value], VocabularyError> {
    let found = value.get(field);
    found.and_then(Value::as_array).map(Vec::as_slice).ok_or_else(|| wrong(field, "an array", found))
}

/// A boolean; absent or null counts as false.
pub(super) fn flag(value: &Value, field: &str) -> Result<bool, VocabularyError> {
    match optional(value, field) {
        None => Ok(false),
        Some(Value::Bool(b)) => Ok(*b),
        other => Err(wrong(field, "true or false", other)),
    }
}

/// The `type` of a tokenizer component.
pub(super) fn kind(component: &Value) -> &str {
    component.get("type").and_then(Value::as_str).unwrap_or_default()
}
