//! Tests over the whole workspace. The crate itself holds what they share.

pub mod fixture;
