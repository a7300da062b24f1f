//! The terminal: progress bars on standard error, tables on standard output.

pub mod breakdown;
pub mod format;
pub mod output_errors;
pub mod progress;
pub mod table;
pub mod worst;
