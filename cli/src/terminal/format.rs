//! Numbers as people read them: the same as in reports.

pub use slmc_report::number::{bytes, parameters, percent, seconds, shape};
