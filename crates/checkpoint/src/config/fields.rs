//! Typed access to the fields of a JSON object, with the field's name in every error.

use serde_json::{Map, Value};

use super::{ConfigError, MAX_DIMENSION};

/// An object of `config.json`. Null counts as absent, as in transformers.
pub(crate) struct Fields<'a> {
    object: &'a Map<String, Value>,
    prefix: String,
    model_type: &'a str,
}

impl<'a> Fields<'a> {
    /// The fields of the whole file.
    pub fn of(json: &'a Value) -> Result<Self, ConfigError> {
        let object = json.as_object().ok_or(ConfigError::NotAnObject { found: type_name(json) })?;
        let model_type = object.get("model_type").and_then(Value::as_str).unwrap_or_default();
        Ok(Self { object, prefix: String::new(), model_type })
    }

    /// The fields of a nested object; errors then say `name.field`.
    pub fn nested(&self, name: &str) -> Result<Option<Fields<'a>>, ConfigError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(object)) => {
                let prefix = format!("{}{name}.", self.prefix);
                Ok(Some(Fields { object, prefix, model_type: self.model_type }))
            }
            Some(other) => Err(self.wrong_type(name, "an object", other)),
        }
    }

    pub fn object(&self) -> &'a Map<String, Value> {
        self.object
    }

    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// The field's name with its parents'.
    pub fn path(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    pub fn absent(&self, name: &str) -> ConfigError {
        ConfigError::Absent { field: self.path(name), model_type: self.model_type.to_owned() }
    }

    pub fn wrong_type(&self, name: &str, expected: &'static str, found: &Value) -> ConfigError {
        let mut text = found.to_string();
        if text.chars().count() > 60 {
            text = text.chars().take(60).chain("…".chars()).collect();
        }
        ConfigError::WrongType { field: self.path(name), expected, found: text }
    }

    pub fn bad_value(&self, name: &str, found: impl ToString, expected: &str) -> ConfigError {
        ConfigError::BadValue {
            field: self.path(name),
            found: found.to_string(),
            expected: expected.to_owned(),
        }
    }

    pub fn optional_string(&self, name: &str) -> Result<Option<String>, ConfigError> {
        self.get(name)
            .map(|value| match value.as_str() {
                Some(text) => Ok(text.to_owned()),
                None => Err(self.wrong_type(name, "a string", value)),
            })
            .transpose()
    }

    pub fn string(&self, name: &str) -> Result<String, ConfigError> {
        self.optional_string(name)?.ok_or_else(|| self.absent(name))
    }

    /// A list of strings; empty if absent.
    pub fn strings(&self, name: &str) -> Result<Vec<String>, ConfigError> {
        let Some(value) = self.get(name) else { return Ok(Vec::new()) };
        value
            .as_array()
            .and_then(|list| list.iter().map(|item| item.as_str().map(str::to_owned)).collect())
            .ok_or_else(|| self.wrong_type(name, "a list of strings", value))
    }

    pub fn boolean(&self, name: &str) -> Result<Option<bool>, ConfigError> {
        self.get(name)
            .map(|value| value.as_bool().ok_or_else(|| self.wrong_type(name, "true or false", value)))
            .transpose()
    }

    /// A finite number above zero.
    pub fn positive(&self, name: &str) -> Result<Option<f64>, ConfigError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = value.as_f64().ok_or_else(|| self.wrong_type(name, "a number", value))?;
        if !(number.is_finite() && number > 0.0) {
            return Err(self.bad_value(name, number, "a finite number above 0"));
        }
        Ok(Some(number))
    }

    /// As [`Fields::positive`], with the class's own value where the file says nothing; null is none.
    pub fn positive_or(&self, name: &str, class: Option<f64>) -> Result<Option<f64>, ConfigError> {
        if self.object.contains_key(name) { self.positive(name) } else { Ok(class) }
    }

    /// A list of finite numbers above zero; `None` if absent.
    pub fn positives(&self, name: &str) -> Result<Option<Vec<f64>>, ConfigError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = |value: &Value| value.as_f64().filter(|x| x.is_finite() && *x > 0.0);
        let list = value.as_array().and_then(|list| list.iter().map(number).collect());
        list.map(Some).ok_or_else(|| self.wrong_type(name, "a list of finite numbers above 0", value))
    }

    pub fn integer(&self, name: &str) -> Result<Option<u64>, ConfigError> {
        self.get(name)
            .map(|value| value.as_u64().ok_or_else(|| self.wrong_type(name, "a non-negative integer", value)))
            .transpose()
    }

    /// A tensor dimension: 1 to [`MAX_DIMENSION`].
    pub fn optional_dimension(&self, name: &str) -> Result<Option<usize>, ConfigError> {
        self.within(name, MAX_DIMENSION as u64)
    }

    pub fn dimension(&self, name: &str) -> Result<usize, ConfigError> {
        self.optional_dimension(name)?.ok_or_else(|| self.absent(name))
    }

    /// A number of positions, which no memory is proportional to by itself: 1 to 2³¹.
    pub fn positions(&self, name: &str) -> Result<usize, ConfigError> {
        self.within(name, 1 << 31)?.ok_or_else(|| self.absent(name))
    }

    pub fn within(&self, name: &str, limit: u64) -> Result<Option<usize>, ConfigError> {
        match self.integer(name)? {
            None => Ok(None),
            Some(value) if (1..=limit).contains(&value) => Ok(Some(value as usize)),
            Some(value) => Err(self.bad_value(name, value, &format!("1 to {limit}"))),
        }
    }

    /// One token id or a list of them; empty if absent. Old files spell "none" as -1.
    pub fn token_ids(&self, name: &str) -> Result<Vec<u32>, ConfigError> {
        let Some(value) = self.get(name) else { return Ok(Vec::new()) };
        let one = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        let ids = match value {
            Value::Array(list) => list.iter().map(one).collect(),
            single if single.as_i64() == Some(-1) => Some(Vec::new()),
            single => one(single).map(|id| vec![id]),
        };
        ids.ok_or_else(|| self.wrong_type(name, "a token id or a list of them", value))
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
