//! One measured value, and the builder of many.

use serde::{Deserialize, Serialize};

use crate::{Metric, Scope};

/// A row of the frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// The model measured, as the user named it.
    pub model: String,
    /// What it was compared with; none for a figure of the model alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// What the row is about.
    pub scope: Scope,
    /// Which one of its scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<String>,
    /// What was measured.
    pub metric: Metric,
    /// The value, in the metric's unit.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "number")]
    pub value: Option<f64>,
    /// The lower end of its interval; of a histogram's bin, the lower edge.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "number")]
    pub low: Option<f64>,
    /// The upper end of its interval; of a histogram's bin, the upper edge.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "number")]
    pub high: Option<f64>,
    /// Its standard error.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "number")]
    pub stderr: Option<f64>,
    /// What is no number: a type, a verdict, a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

impl Measurement {
    /// Sets which one of its scope it is about.
    pub fn item(&mut self, item: impl ToString) -> &mut Self {
        self.item = Some(item.to_string());
        self
    }

    /// Sets the value.
    pub fn value(&mut self, value: f64) -> &mut Self {
        self.value = Some(value);
        self
    }

    /// Sets the standard error.
    pub fn stderr(&mut self, stderr: f64) -> &mut Self {
        self.stderr = Some(stderr);
        self
    }

    /// Sets the interval, or a bin's edges.
    pub fn between(&mut self, low: Option<f64>, high: Option<f64>) -> &mut Self {
        (self.low, self.high) = (low, high);
        self
    }

    /// Sets the text.
    pub fn text(&mut self, text: impl ToString) -> &mut Self {
        self.text = Some(text.to_string());
        self
    }

    /// The ends of its interval: those measured, else the normal 95 % interval of its standard error.
    pub fn bounds(&self) -> Option<(f64, f64)> {
        /// The standard normal's 97.5th percentile.
        const REACH: f64 = 1.96;
        match (self.value, self.low, self.high, self.stderr) {
            (_, Some(low), Some(high), _) => Some((low, high)),
            (Some(value), _, _, Some(stderr)) => Some((value - REACH * stderr, value + REACH * stderr)),
            _ => None,
        }
    }

    /// The value as people read it, with its standard error or interval where it has one; the text where it has no value.
    pub fn shown(&self) -> String {
        let show = |value| self.metric.show(value);
        match (self.value, self.stderr, self.low.zip(self.high)) {
            (Some(value), Some(stderr), _) => format!("{} ± {}", show(value), self.metric.show_error(stderr)),
            (Some(value), None, Some((low, high))) => {
                format!("{} ({} … {})", show(value), show(low), show(high))
            }
            (Some(value), None, None) => show(value),
            (None, ..) => self.text.clone().unwrap_or_default(),
        }
    }
}

/// Rows about one model, beside a base or alone.
#[derive(Clone, Debug)]
pub struct Rows {
    model: String,
    base: Option<String>,
    rows: Vec<Measurement>,
}

impl Rows {
    /// No rows yet, about `model` compared with `base`.
    pub fn new(model: impl ToString, base: Option<impl ToString>) -> Self {
        Self { model: model.to_string(), base: base.map(|base| base.to_string()), rows: Vec::new() }
    }

    /// A new row, to be filled in.
    pub fn add(&mut self, scope: Scope, metric: Metric) -> &mut Measurement {
        self.rows.push(Measurement {
            model: self.model.clone(),
            base: self.base.clone(),
            scope,
            item: None,
            metric,
            value: None,
            low: None,
            high: None,
            stderr: None,
            text: None,
        });
        self.rows.last_mut().expect("one was added")
    }

    /// The rows.
    pub fn finish(self) -> Vec<Measurement> {
        self.rows
    }
}

/// Numbers in JSON, which has none that are infinite: those are written as texts.
mod number {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Spelled {
        Number(f64),
        Text(String),
    }

    #[allow(clippy::ref_option)] // serde's signature
    pub fn serialize<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) if value.is_finite() => serializer.serialize_f64(*value),
            Some(value) => serializer.serialize_str(&value.to_string()),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
        match Option::<Spelled>::deserialize(deserializer)? {
            None => Ok(None),
            Some(Spelled::Number(value)) => Ok(Some(value)),
            Some(Spelled::Text(text)) => match text.as_str() {
                "inf" => Ok(Some(f64::INFINITY)),
                "-inf" => Ok(Some(f64::NEG_INFINITY)),
                "NaN" => Ok(Some(f64::NAN)),
                _ => Err(D::Error::custom(format!("{text:?} is no number"))),
            },
        }
    }
}
