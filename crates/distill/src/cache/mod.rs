//! A teacher's predictions in a file, to be trained on without the teacher.

mod file;
mod rows;

pub use file::{CacheHeader, CacheWriter, LogitCache, Records};
pub use rows::CachedRows;
