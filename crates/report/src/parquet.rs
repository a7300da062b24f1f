//! The frame as Parquet, for data frames of every language. The same rows are the same bytes.
//!
//! The footer holds a checksum of the whole file under the key `slmc.sha256`, computed with its own digits as zeros. polars' decoder
//! believes what a file says of its sizes, so damage is found before it reads anything.

use std::io::Cursor;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use polars::prelude::{KeyValueMetadata, ParallelStrategy, ParquetReader, ParquetWriter, SerReader};
use sha2::{Digest, Sha256};

use crate::frame::{from_frame, to_frame};
use crate::{Measurement, ReportError};

/// The file's bytes.
///
/// # Errors
/// Those of the writer.
pub fn write(rows: &[Measurement]) -> Result<Vec<u8>, ReportError> {
    let mut bytes = Vec::new();
    let unsealed = KeyValueMetadata::from_static(vec![(KEY.to_owned(), ZEROS.to_owned())]);
    // by one thread: frames are small
    let writer = ParquetWriter::new(&mut bytes).set_parallel(false).with_key_value_metadata(Some(unsealed));
    writer
        .finish(&mut to_frame(rows))
        .map_err(|error| ReportError::Rendering { format: "Parquet", reason: error.to_string() })?;
    if let Some(at) = seal(&bytes) {
        let sum = checksum(&bytes);
        bytes[at].copy_from_slice(sum.as_bytes());
    }
    Ok(bytes)
}

/// The checksum's key in the footer.
const KEY: &str = "slmc.sha256";
/// A checksum's place before it is known.
const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Where the checksum's digits stand: behind its key, a field's header and their number, each of one byte (Thrift's compact
/// protocol).
fn seal(bytes: &[u8]) -> Option<Range<usize>> {
    let key = bytes.windows(KEY.len()).rposition(|window| window == KEY.as_bytes())?;
    let at = key + KEY.len() + 2;
    (bytes.len() >= at + ZEROS.len() && usize::from(bytes[at - 1]) == ZEROS.len())
        .then(|| at..at + ZEROS.len())
}

/// Of a file whose checksum's digits are zeros, in hexadecimal digits.
fn checksum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The rows of a file's bytes.
///
/// # Errors
/// Says what is wrong: no Parquet, a broken one, or other columns.
pub fn read(mut bytes: Vec<u8>) -> Result<Vec<Measurement>, String> {
    /// Stands at the beginning and at the end of every Parquet file.
    const MAGIC: &[u8] = b"PAR1";
    if !bytes.starts_with(MAGIC) {
        return Err("it is no Parquet file".into());
    }
    if bytes.len() < 3 * MAGIC.len() || !bytes.ends_with(MAGIC) {
        return Err("the Parquet file ends too early".into());
    }
    // a file that another program wrote has none
    if let Some(at) = seal(&bytes) {
        let written = bytes[at.clone()].to_vec();
        bytes[at].copy_from_slice(ZEROS.as_bytes());
        if checksum(&bytes).as_bytes() != written {
            return Err("the Parquet file is damaged: its checksum does not fit".into());
        }
    }
    let reader = ParquetReader::new(Cursor::new(bytes)).read_parallel(ParallelStrategy::None);
    // polars' decoder of pages panics at some damaged ones
    match catch_unwind(AssertUnwindSafe(|| reader.finish())) {
        Ok(Ok(frame)) => from_frame(&frame),
        Ok(Err(error)) => Err(format!("the Parquet file is broken: {error}")),
        Err(_) => Err("the Parquet file is broken: its pages cannot be decoded".into()),
    }
}
