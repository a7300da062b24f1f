//! Choosing scales: the searches that formats share, each over sixteen sub-blocks at a time.

pub mod affine;
pub mod bytes;
pub mod codebook;
pub mod k_affine;
pub mod k_codebook;
pub mod k_signed;
pub mod lanes;
pub mod single;
mod super_block;
pub mod symmetric;
pub mod unit;
