//! Measurements as one long polars frame.
//!
//! One row a measurement, the same columns whatever was measured, so that frames of different commands can be put below
//! each other and joined: `model`, `base`, `scope`, `item`, `metric`, `unit` and `text` are strings, `value`, `low`, `high` and
//! `stderr` 64-bit floats. A column's null is a thing that the row does not have.

use polars::prelude::{Column, DataFrame, DataType};

use crate::{Measurement, Metric, Scope};

/// Names and types of the columns, in their order.
const COLUMNS: [(&str, DataType); 11] = [
    ("model", DataType::String),
    ("base", DataType::String),
    ("scope", DataType::String),
    ("item", DataType::String),
    ("metric", DataType::String),
    ("value", DataType::Float64),
    ("low", DataType::Float64),
    ("high", DataType::Float64),
    ("stderr", DataType::Float64),
    ("unit", DataType::String),
    ("text", DataType::String),
];

/// The rows as a frame.
///
/// # Panics
/// Never: all columns have the same length.
pub fn to_frame(rows: &[Measurement]) -> DataFrame {
    fn strings<'a>(
        name: &str,
        rows: &'a [Measurement],
        of: impl Fn(&'a Measurement) -> Option<&'a str>,
    ) -> Column {
        Column::new(name.into(), rows.iter().map(of).collect::<Vec<_>>())
    }
    let numbers = |name: &str, of: fn(&Measurement) -> Option<f64>| {
        Column::new(name.into(), rows.iter().map(of).collect::<Vec<_>>())
    };
    let columns = vec![
        strings("model", rows, |row| Some(&row.model)),
        strings("base", rows, |row| row.base.as_deref()),
        strings("scope", rows, |row| Some(row.scope.name())),
        strings("item", rows, |row| row.item.as_deref()),
        strings("metric", rows, |row| Some(row.metric.name())),
        numbers("value", |row| row.value),
        numbers("low", |row| row.low),
        numbers("high", |row| row.high),
        numbers("stderr", |row| row.stderr),
        strings("unit", rows, |row| Some(row.metric.unit().name())),
        strings("text", rows, |row| row.text.as_deref()),
    ];
    DataFrame::new(rows.len(), columns).expect("columns of one length")
}

/// The rows of a frame.
///
/// # Errors
/// Says which column is missing or of another type, or which row holds something that is not known here.
pub fn from_frame(frame: &DataFrame) -> Result<Vec<Measurement>, String> {
    for (name, expected) in &COLUMNS {
        let column = frame.column(name).map_err(|_| {
            let found: Vec<_> = frame.get_column_names().iter().map(|name| name.to_string()).collect();
            format!("no column `{name}`; its columns are {}", found.join(", "))
        })?;
        if column.dtype() != expected {
            return Err(format!("column `{name}` is of type {}, not {expected}", column.dtype()));
        }
        // what a damaged file may be read as
        if column.len() != frame.column("model").map_or(0, Column::len) {
            return Err(format!("column `{name}` has another number of rows than `model`"));
        }
    }
    let strings = |name: &str| -> Result<Vec<Option<String>>, String> {
        let column = frame.column(name).and_then(|column| column.str()).map_err(|error| error.to_string())?;
        Ok(column.iter().map(|value| value.map(str::to_owned)).collect())
    };
    let numbers = |name: &str| -> Result<Vec<Option<f64>>, String> {
        let column = frame.column(name).and_then(|column| column.f64()).map_err(|error| error.to_string())?;
        Ok(column.iter().collect())
    };
    let (models, mut bases, scopes, mut items) =
        (strings("model")?, strings("base")?, strings("scope")?, strings("item")?);
    let (metrics, mut texts) = (strings("metric")?, strings("text")?);
    let (values, lows, highs, stderrs) =
        (numbers("value")?, numbers("low")?, numbers("high")?, numbers("stderr")?);
    let needed = |column: &str, row: usize| format!("row {row} has no {column}");
    let unknown = |what: &str, row: usize, name: &str| {
        format!("row {row}: {what} `{name}` is not known to this slmc; a later version may have written it")
    };
    let row = |(n, model): (usize, Option<String>)| {
        let scope = scopes[n].as_deref().ok_or_else(|| needed("scope", n))?;
        let metric = metrics[n].as_deref().ok_or_else(|| needed("metric", n))?;
        Ok(Measurement {
            model: model.ok_or_else(|| needed("model", n))?,
            base: bases[n].take(),
            scope: Scope::named(scope).ok_or_else(|| unknown("scope", n, scope))?,
            item: items[n].take(),
            metric: Metric::named(metric).ok_or_else(|| unknown("metric", n, metric))?,
            value: values[n],
            low: lows[n],
            high: highs[n],
            stderr: stderrs[n],
            text: texts[n].take(),
        })
    };
    models.into_iter().enumerate().map(row).collect()
}
