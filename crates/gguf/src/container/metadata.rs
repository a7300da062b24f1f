//! The ordered key → value part of a GGUF file, with typed access.

use std::collections::HashMap;

use super::value::{Array, Strings, Value};

/// Metadata in file order; every key occurs once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    entries: Vec<(String, Value)>,
    index: HashMap<String, usize>,
}

/// A metadata entry is not there or is not what the caller needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum MetadataError {
    #[error("metadata key `{key}` is missing")]
    Missing { key: String },
    #[error("metadata key `{key}` should be {expected}, found {found}")]
    WrongType { key: String, expected: &'static str, found: String },
}

/// A Rust type that a metadata value can be read as.
///
/// Integers are read from every integer type whose value fits, since writers differ in the width they choose; floats from
/// both float types. Nothing else is converted.
pub trait FromValue<'a>: Sized {
    /// What an error says was expected.
    const EXPECTED: &'static str;

    /// The value as this type.
    fn from_value(value: &'a Value) -> Option<Self>;
}

impl Metadata {
    /// No entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key`; an existing entry keeps its place. Returns the value it had.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<Value>) -> Option<Value> {
        let (key, value) = (key.into(), value.into());
        if let Some(&at) = self.index.get(&key) {
            return Some(std::mem::replace(&mut self.entries[at].1, value));
        }
        self.index.insert(key.clone(), self.entries.len());
        self.entries.push((key, value));
        None
    }

    /// Removes `key` and returns its value; the others keep their order.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let at = self.index.remove(key)?;
        self.index.values_mut().filter(|i| **i > at).for_each(|i| *i -= 1);
        Some(self.entries.remove(at).1)
    }

    /// The value of `key`, if present.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.index.get(key).map(|&at| &self.entries[at].1)
    }

    /// True where `key` is present.
    pub fn contains(&self, key: &str) -> bool {
        self.index.contains_key(key)
    }

    /// The entries in file order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> + '_ {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True without entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of `key` as `T`.
    ///
    /// # Errors
    /// The key is missing, or its value is no `T`.
    pub fn require<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<T, MetadataError> {
        self.optional(key)?.ok_or_else(|| MetadataError::Missing { key: key.to_owned() })
    }

    /// The value of `key` as `T`, or `None` where the key is missing.
    ///
    /// # Errors
    /// The value is no `T`.
    pub fn optional<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>, MetadataError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match T::from_value(value) {
            Some(v) => Ok(Some(v)),
            None => Err(MetadataError::WrongType {
                key: key.to_owned(),
                expected: T::EXPECTED,
                found: format!("{} {value}", value.value_type()),
            }),
        }
    }
}

macro_rules! getters {
    ($($(#[$doc:meta])* $name:ident -> $ty:ty;)*) => {
        /// Shorthands for [`Metadata::require`], with its errors.
        impl Metadata {$(
            $(#[$doc])*
            pub fn $name(&self, key: &str) -> Result<$ty, MetadataError> {
                self.require(key)
            }
        )*}
    };
}
getters! {
    /// An integer that fits `u32`.
    u32 -> u32;
    /// An integer that fits `u64`.
    u64 -> u64;
    /// An integer that fits `usize`.
    usize -> usize;
    /// An integer that fits `i64`.
    i64 -> i64;
    /// A float.
    f32 -> f32;
    /// A boolean.
    bool -> bool;
    /// A string.
    str -> &str;
    /// An array of any type.
    array -> &Array;
    /// An array of strings.
    strings -> &Strings;
    /// An array of `f32`.
    f32_array -> &[f32];
    /// An array of `i32`.
    i32_array -> &[i32];
    /// An array of `u32`.
    u32_array -> &[u32];
    /// An array of booleans.
    bool_array -> &[bool];
}

macro_rules! from_integer {
    ($($ty:ty: $expected:literal),*) => {$(
        impl FromValue<'_> for $ty {
            const EXPECTED: &'static str = $expected;
            fn from_value(value: &Value) -> Option<Self> {
                value.as_integer()?.try_into().ok()
            }
        }
    )*};
}
from_integer!(u32: "an integer that fits u32", u64: "an integer that fits u64", usize: "an integer that fits usize",
              i32: "an integer that fits i32", i64: "an integer that fits i64");

macro_rules! from_variant {
    ($($ty:ty: $expected:literal, $pattern:pat => $result:expr;)*) => {$(
        impl<'a> FromValue<'a> for $ty {
            const EXPECTED: &'static str = $expected;
            fn from_value(value: &'a Value) -> Option<Self> {
                match value {
                    $pattern => Some($result),
                    _ => None,
                }
            }
        }
    )*};
}
from_variant! {
    bool: "bool", Value::Bool(v) => *v;
    &'a str: "str", Value::String(v) => v;
    &'a Array: "an array", Value::Array(v) => v;
    &'a Strings: "an array of str", Value::Array(Array::Strings(v)) => v;
    &'a [f32]: "an array of f32", Value::Array(Array::F32(v)) => v;
    &'a [i32]: "an array of i32", Value::Array(Array::I32(v)) => v;
    &'a [u8]: "an array of u8", Value::Array(Array::U8(v)) => v;
    &'a [u32]: "an array of u32", Value::Array(Array::U32(v)) => v;
    &'a [bool]: "an array of bool", Value::Array(Array::Bool(v)) => v;
}

impl FromValue<'_> for f32 {
    const EXPECTED: &'static str = "a float";

    fn from_value(value: &Value) -> Option<Self> {
        match *value {
            Value::F32(v) => Some(v),
            Value::F64(v) => Some(v as f32),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn getters_name_key_expectation_and_finding() {
        let mut m = Metadata::new();
        m.insert("n", 7u64);
        m.insert("minus", -1i32);
        m.insert("s", "text");
        assert_eq!(m.u32("n"), Ok(7));
        assert_eq!(m.optional::<u32>("absent"), Ok(None));
        assert_eq!(m.u32("absent"), Err(MetadataError::Missing { key: "absent".into() }));
        assert_eq!(
            m.u32("minus").unwrap_err().to_string(),
            "metadata key `minus` should be an integer that fits u32, found i32 -1"
        );
        assert_eq!(
            m.f32("s").unwrap_err().to_string(),
            "metadata key `s` should be a float, found str \"text\""
        );
    }

    #[test]
    fn order_survives_replacement_and_removal() {
        let mut m = Metadata::new();
        for key in ["a", "b", "c"] {
            m.insert(key, 1u32);
        }
        m.insert("a", 2u32);
        assert_eq!(m.remove("b"), Some(Value::U32(1)));
        m.insert("d", 4u32);
        let keys: Vec<_> = m.iter().map(|(k, _)| k).collect();
        assert_eq!(keys, ["a", "c", "d"]);
        assert_eq!((m.u32("a"), m.u32("c"), m.u32("d")), (Ok(2), Ok(1), Ok(4)));
    }
}
