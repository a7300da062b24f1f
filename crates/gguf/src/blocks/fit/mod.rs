//! Choosing scales: the searches that formats share, each over sixteen sub-blocks at a time.

pub mod affine;
pub mod lanes;
pub mod symmetric;
