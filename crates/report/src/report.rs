//! All measurements of one run, and finding them again.

use std::path::Path;

use crate::directory::JSON;
use crate::{Measurement, Metric, ReportError, Scope, json, parquet};

/// Which of a run's two models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that the run is about: its rows name the run's base.
    Model,
    /// The one it was compared with: its rows name no base.
    Base,
}

/// The measurements of one run. Which model it is about, and beside which base, its rows of [`Scope::Run`] say.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// All rows.
    pub rows: Vec<Measurement>,
}

impl Report {
    /// Of rows.
    ///
    /// # Panics
    /// If there are none.
    pub fn new(rows: Vec<Measurement>) -> Self {
        assert!(!rows.is_empty(), "a report of nothing");
        Self { rows }
    }

    /// Reads a report directory (its JSON file), or a Parquet or JSON file of measurements.
    ///
    /// # Errors
    /// The path cannot be read, or holds something else.
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        let file = match path.is_dir() {
            true => path.join(JSON),
            false => path.to_owned(),
        };
        let bytes = std::fs::read(&file).map_err(|source| ReportError::Io { path: file.clone(), source })?;
        let rows = match std::str::from_utf8(&bytes) {
            Ok(text) if !bytes.starts_with(b"PAR1") => json::read(text),
            _ => parquet::read(bytes),
        };
        let rows = rows.and_then(|rows| match rows.is_empty() {
            true => Err("it has no rows".into()),
            false => Ok(rows),
        });
        match rows {
            Ok(rows) => Ok(Self::new(rows)),
            Err(reason) => Err(ReportError::NotMeasurements { path: file, reason }),
        }
    }

    fn first(&self) -> &Measurement {
        self.rows.iter().find(|row| row.scope == Scope::Run).unwrap_or(&self.rows[0])
    }

    /// The model that the run was about.
    pub fn model(&self) -> &str {
        &self.first().model
    }

    /// What it was compared with.
    pub fn base(&self) -> Option<&str> {
        self.first().base.as_deref()
    }

    /// Rows of a scope, of every model.
    pub fn of(&self, scope: Scope) -> impl Iterator<Item = &Measurement> + Clone {
        self.rows.iter().filter(move |row| row.scope == scope)
    }

    /// Whether a row is about this side of the run.
    pub fn is_about(&self, side: Side, row: &Measurement) -> bool {
        match side {
            Side::Model => row.model == self.model() && row.base.as_deref() == self.base(),
            Side::Base => Some(row.model.as_str()) == self.base() && row.base.is_none(),
        }
    }

    /// The first row of a scope and metric about one side, of an item or of all.
    pub fn find(&self, side: Side, scope: Scope, item: Option<&str>, metric: Metric) -> Option<&Measurement> {
        self.of(scope)
            .find(|row| row.metric == metric && row.item.as_deref() == item && self.is_about(side, row))
    }

    /// The value of an item of a scope.
    pub fn value(&self, side: Side, scope: Scope, item: &str, metric: Metric) -> Option<f64> {
        self.find(side, scope, Some(item), metric)?.value
    }

    /// The row about the run's model as a whole.
    pub fn own(&self, metric: Metric) -> Option<&Measurement> {
        self.find(Side::Model, Scope::Summary, None, metric)
    }

    /// The row about the run's base as a whole.
    pub fn base_own(&self, metric: Metric) -> Option<&Measurement> {
        self.find(Side::Base, Scope::Summary, None, metric)
    }

    /// A setting of the run.
    pub fn setting(&self, metric: Metric) -> Option<&Measurement> {
        self.of(Scope::Run).find(|row| row.metric == metric)
    }

    /// A setting as text, as people read it.
    pub fn setting_shown(&self, metric: Metric) -> Option<String> {
        self.setting(metric).map(Measurement::shown)
    }

    /// The items of a scope that have a row of `metric`, of any model, in their order.
    pub fn items(&self, scope: Scope, metric: Metric) -> Vec<&str> {
        let mut items = Vec::new();
        for row in self.of(scope).filter(|row| row.metric == metric) {
            if let Some(item) = row.item.as_deref().filter(|item| !items.contains(item)) {
                items.push(item);
            }
        }
        items
    }

    /// What was done: `eval`, `quantize` …
    pub fn verb(&self) -> String {
        self.setting_shown(Metric::Verb).unwrap_or_else(|| "report".to_owned())
    }
}

/// The last part of a path, which is what people call a model.
pub fn name(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(path)
}
