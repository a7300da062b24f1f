//! Measurements as data frames, and their renderings: JSON, Parquet, Markdown, JUnit XML, GitHub annotations and HTML.
//!
//! Everything measured is a [`Measurement`]: a row of one long frame ([`frame`]). A [`Report`] is all rows of one run, its
//! settings among them, so a file of rows says by itself what it is about. This crate knows what the rows are called and how
//! they are shown; who measures, and how, it does not know.

pub mod charts;
pub mod checks;
pub mod compare;
pub mod directory;
pub mod document;
mod error;
pub mod file;
pub mod frame;
pub mod github;
pub mod html;
pub mod json;
pub mod junit;
pub mod layers;
pub mod markdown;
pub mod measurement;
pub mod metric;
pub mod number;
pub mod parquet;
pub mod report;
pub mod scope;

pub use error::ReportError;
pub use measurement::{Measurement, Rows};
pub use metric::{Better, Metric, Unit};
pub use report::{Report, Side};
pub use scope::Scope;
