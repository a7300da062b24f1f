//! The terminal: progress bars on standard error, tables on standard output.

pub mod breakdown;
pub mod by_place;
pub mod format;
pub mod progress;
pub mod table;
pub mod worst;
