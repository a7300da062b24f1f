//! The legacy importance matrix (`.dat`), parsed from untrusted bytes.

use std::collections::BTreeMap;

use super::{Entry, ImatrixFormatError, ImportanceMatrix};

/// Fewest bytes of an entry: name length, one byte of name, calls, values, one value.
const MIN_ENTRY_BYTES: usize = 4 + 1 + 4 + 4 + 4;

pub(super) fn parse(file: &[u8]) -> Result<ImportanceMatrix, ImatrixFormatError> {
    let mut rest = file;
    let count = number(&mut rest, "the number of entries")?;
    let room = rest.len() / MIN_ENTRY_BYTES;
    let count = within(count, 1..=room, "entries", || format!("1 to {room}, which the file has room for"))?;
    let mut entries = BTreeMap::new();
    for index in 0..count {
        let place = |part: &str| format!("{part} of entry {index}");
        let name = name(&mut rest, 1, &place("the name"))?;
        let name = std::str::from_utf8(name).map_err(|_| ImatrixFormatError::NotUtf8 { index })?.to_owned();
        let calls = number(&mut rest, &place("the calls"))?;
        let length = number(&mut rest, &place("the number of values"))?;
        let room = rest.len() / 4;
        let expected = || format!("1 to {room}, which the file has room for");
        let length = within(length, 1..=room, &format!("values in entry `{name}`"), expected)?;
        let bytes = take(&mut rest, 4 * length, &place("the values"))?;
        let values = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        // values are the mean times the calls: sums over the calls for every purpose but their scale
        let entry = Entry::new(values, &[f64::from(calls)])
            .map_err(|error| ImatrixFormatError::Entry { tensor: name.clone(), error })?;
        if entries.insert(name.clone(), entry).is_some() {
            return Err(ImatrixFormatError::Duplicate { tensor: name });
        }
    }
    let (mut chunk_count, mut datasets) = (0, Vec::new());
    // early writers ended here, later ones after the chunks
    if !rest.is_empty() {
        let chunks = number(&mut rest, "the number of chunks")?;
        chunk_count = u32::try_from(chunks).map_err(|_| ImatrixFormatError::Number {
            what: "chunks".into(),
            found: chunks.into(),
            expected: "0 or more".into(),
        })?;
    }
    if !rest.is_empty() {
        let text = name(&mut rest, 0, "the name of the text")?;
        datasets.extend((!text.is_empty()).then(|| String::from_utf8_lossy(text).into_owned()));
    }
    if !rest.is_empty() {
        return Err(ImatrixFormatError::Trailing { bytes: rest.len() });
    }
    Ok(ImportanceMatrix { entries, datasets, chunk_count, chunk_size: 0, calibration_sha256: None })
}

fn take<'a>(rest: &mut &'a [u8], length: usize, place: &str) -> Result<&'a [u8], ImatrixFormatError> {
    let Some((taken, after)) = rest.split_at_checked(length) else {
        return Err(ImatrixFormatError::Truncated {
            place: place.to_owned(),
            needed: length as u64,
            available: rest.len() as u64,
        });
    };
    *rest = after;
    Ok(taken)
}

fn number(rest: &mut &[u8], place: &str) -> Result<i32, ImatrixFormatError> {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(take(rest, 4, place)?);
    Ok(i32::from_le_bytes(bytes))
}

/// A length and as many bytes, at least `least`.
fn name<'a>(rest: &mut &'a [u8], least: usize, place: &str) -> Result<&'a [u8], ImatrixFormatError> {
    let length = number(rest, place)?;
    let room = rest.len();
    let length = within(length, least..=room, &format!("bytes for {place}"), || {
        format!("{least} to {room}, which the file has room for")
    })?;
    take(rest, length, place)
}

fn within(
    found: i32,
    range: std::ops::RangeInclusive<usize>,
    what: &str,
    expected: impl Fn() -> String,
) -> Result<usize, ImatrixFormatError> {
    usize::try_from(found).ok().filter(|n| range.contains(n)).ok_or_else(|| ImatrixFormatError::Number {
        what: what.to_owned(),
        found: found.into(),
        expected: expected(),
    })
}
