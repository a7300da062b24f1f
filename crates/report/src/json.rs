//! The rows as JSON: `{"slmc_report": 1, "measurements": […]}`, one measurement a line, so that differences between two files
//! are differences between measurements. Fields are the frame's columns; what a row does not have is left out.
//!
//! `jq '.measurements[] | select(.scope == "summary" and .metric == "kl_divergence").value'` finds a figure.

use serde::{Deserialize, Serialize};

use crate::Measurement;

/// The version of the stored form.
const VERSION: u32 = 1;

/// How every such file begins.
pub const BEGINNING: &str = "{\"slmc_report\": ";

/// A row with the unit that its metric has, for readers that do not know the metrics.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    measurement: &'a Measurement,
    unit: &'static str,
}

#[derive(Deserialize)]
struct File {
    slmc_report: u32,
    measurements: Vec<serde_json::Value>,
}

/// The file's text.
///
/// # Panics
/// Never: every row can be written.
pub fn write(rows: &[Measurement]) -> String {
    let lines: Vec<String> = rows
        .iter()
        .map(|measurement| {
            let row = Row { measurement, unit: measurement.metric.unit().name() };
            serde_json::to_string(&row).expect("strings and numbers")
        })
        .collect();
    format!("{BEGINNING}{VERSION}, \"measurements\": [\n{}\n]}}\n", lines.join(",\n"))
}

/// The rows of a file's text.
///
/// # Errors
/// Says what is wrong: no JSON, other fields, another version.
pub fn read(text: &str) -> Result<Vec<Measurement>, String> {
    let value: serde_json::Value =
        serde_json::from_str(text).map_err(|error| format!("it is no JSON: {error}"))?;
    let file: File = serde_json::from_value(value).map_err(|error| error.to_string())?;
    if file.slmc_report != VERSION {
        return Err(format!("it is of version {}; this slmc reads version {VERSION}", file.slmc_report));
    }
    let rows = file.measurements.into_iter().enumerate();
    rows.map(|(n, mut row)| {
        if let Some(row) = row.as_object_mut() {
            row.remove("unit");
        }
        serde_json::from_value(row).map_err(|error| format!("measurement {n}: {error}"))
    })
    .collect()
}
