//! The frame as Parquet, for data frames of every language. The same rows are the same bytes.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use polars::prelude::{ParallelStrategy, ParquetReader, ParquetWriter, SerReader};

use crate::frame::{from_frame, to_frame};
use crate::{Measurement, ReportError};

/// The file's bytes.
///
/// # Errors
/// Those of the writer.
pub fn write(rows: &[Measurement]) -> Result<Vec<u8>, ReportError> {
    let mut bytes = Vec::new();
    // by one thread: frames are small
    let writer = ParquetWriter::new(&mut bytes).set_parallel(false);
    writer
        .finish(&mut to_frame(rows))
        .map_err(|error| ReportError::Rendering { format: "Parquet", reason: error.to_string() })?;
    Ok(bytes)
}

/// The rows of a file's bytes.
///
/// # Errors
/// Says what is wrong: no Parquet, a broken one, or other columns.
pub fn read(bytes: Vec<u8>) -> Result<Vec<Measurement>, String> {
    /// Stands at the beginning and at the end of every Parquet file.
    const MAGIC: &[u8] = b"PAR1";
    if !bytes.starts_with(MAGIC) {
        return Err("it is no Parquet file".into());
    }
    if bytes.len() < 3 * MAGIC.len() || !bytes.ends_with(MAGIC) {
        return Err("the Parquet file ends too early".into());
    }
    let reader = ParquetReader::new(Cursor::new(bytes)).read_parallel(ParallelStrategy::None);
    // polars' decoder of pages panics at some damaged ones
    match catch_unwind(AssertUnwindSafe(|| reader.finish())) {
        Ok(Ok(frame)) => from_frame(&frame),
        Ok(Err(error)) => Err(format!("the Parquet file is broken: {error}")),
        Err(_) => Err("the Parquet file is broken: its pages cannot be decoded".into()),
    }
}
