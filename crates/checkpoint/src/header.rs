//! The header of a safetensors file: eight bytes of length, then JSON naming every tensor.
//!
//! Checked before anything is indexed by it: length against file, JSON without duplicate names, dtypes,
//! shapes whose product does not overflow, byte ranges that fit dtype and shape, lie within the data, and
//! cover it without overlap or hole. Source: safetensors `README.md` ("Format") and `src/tensor.rs`.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use thiserror::Error;

use crate::Dtype;

/// Longest header that is read, in bytes; the reference reader's limit.
pub const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Bytes before the JSON: its length as a little-endian u64.
pub(crate) const LENGTH_BYTES: u64 = 8;

/// One tensor as the header describes it; every number is checked against the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorEntry {
    /// Its name.
    pub name: String,
    /// How its elements are stored.
    pub dtype: Dtype,
    /// Its dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Its first byte, counted from the beginning of the data section.
    pub begin: usize,
    /// One past its last byte.
    pub end: usize,
}

/// A checked header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Where the data section begins in the file.
    pub data_start: usize,
    /// The tensors in the order of their data.
    pub tensors: Vec<TensorEntry>,
    /// The `__metadata__` strings.
    pub metadata: BTreeMap<String, String>,
}

/// What can be wrong with a safetensors header. Offsets count from the beginning of the data section.
#[derive(Debug, Error, PartialEq, Eq)]
#[allow(missing_docs)] // the messages say it
pub enum HeaderError {
    #[error("the file has {found} bytes; a safetensors file begins with 8 bytes of header length")]
    TooShort { found: u64 },
    #[error("the header claims {found} bytes; at most {limit} are read")]
    TooLong { found: u64, limit: u64 },
    #[error("the header claims {found} bytes, but only {available} follow in the file")]
    PastEnd { found: u64, available: u64 },
    #[error("the header is not UTF-8 (byte {valid_up_to})")]
    NotUtf8 { valid_up_to: usize },
    #[error("the header is not the expected JSON object: {reason}")]
    Json { reason: String },
    #[error("tensor {tensor} is listed twice in the header")]
    Duplicate { tensor: String },
    #[error("tensor {tensor}: its header entry is malformed: {reason}")]
    Entry { tensor: String, reason: String },
    #[error("tensor {tensor} has dtype {found}; expected F16, BF16, F32, I32 or I64")]
    UnsupportedDtype { tensor: String, found: String },
    #[error("tensor {tensor} has shape {shape:?}, whose size overflows")]
    ShapeOverflow { tensor: String, shape: Vec<u64> },
    #[error("tensor {tensor}: its data begins at byte {begin}, after its end at byte {end}")]
    OffsetsReversed { tensor: String, begin: u64, end: u64 },
    #[error(
        "tensor {tensor}: its data ends at byte {end}, but the file holds only {available} bytes of data"
    )]
    OffsetsPastEnd { tensor: String, end: u64, available: u64 },
    #[error("tensor {tensor}: {dtype} {shape:?} takes {expected} bytes, but the header gives it {found}")]
    ByteLength { tensor: String, dtype: Dtype, shape: Vec<usize>, expected: u64, found: u64 },
    #[error(
        "tensors {first} and {second} overlap: {second} begins at byte {begin}, {first} ends at byte {end}"
    )]
    Overlap { first: String, second: String, begin: u64, end: u64 },
    #[error("bytes {from} to {to} before tensor {tensor} belong to no tensor")]
    Hole { tensor: String, from: u64, to: u64 },
    #[error("the tensors end at byte {expected}, but the file holds {found} bytes of data")]
    TrailingBytes { expected: u64, found: u64 },
}

impl Header {
    /// Parses and checks the header of the file whose bytes these are (mapped or read: only the header is
    /// touched).
    pub fn parse(file: &[u8]) -> Result<Self, HeaderError> {
        let file_bytes = file.len() as u64;
        let Some((length, rest)) = file.split_first_chunk::<{ LENGTH_BYTES as usize }>() else {
            return Err(HeaderError::TooShort { found: file_bytes });
        };
        let length = u64::from_le_bytes(*length);
        if length > MAX_HEADER_BYTES {
            return Err(HeaderError::TooLong { found: length, limit: MAX_HEADER_BYTES });
        }
        let available = rest.len() as u64;
        if length > available {
            return Err(HeaderError::PastEnd { found: length, available });
        }
        let (json, data) = rest.split_at(length as usize);
        let json =
            std::str::from_utf8(json).map_err(|e| HeaderError::NotUtf8 { valid_up_to: e.valid_up_to() })?;
        if !json.starts_with('{') {
            return Err(HeaderError::Json { reason: "it does not begin with an opening brace".into() });
        }
        let raw: RawHeader =
            serde_json::from_str(json).map_err(|e| HeaderError::Json { reason: e.to_string() })?;
        let data_start = (LENGTH_BYTES + length) as usize;
        raw.check(data_start, data.len() as u64)
    }
}

/// The header's JSON before any check but its syntax. Entries keep their order and their duplicates, which a
/// map (or a `Value`) would swallow.
struct RawHeader {
    entries: Vec<(String, Box<RawValue>)>,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = RawHeader;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from tensor names to their dtype, shape and data_offsets")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let mut entries = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    entries.push((key, map.next_value::<Box<RawValue>>()?));
                }
                Ok(RawHeader { entries })
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl RawHeader {
    fn check(self, data_start: usize, data_bytes: u64) -> Result<Header, HeaderError> {
        let mut metadata = BTreeMap::new();
        let mut tensors = Vec::with_capacity(self.entries.len());
        let mut names = std::collections::HashSet::with_capacity(self.entries.len());
        for (name, value) in self.entries {
            if !names.insert(name.clone()) {
                return Err(HeaderError::Duplicate { tensor: name });
            }
            if name == "__metadata__" {
                metadata = serde_json::from_str(value.get())
                    .map_err(|e| HeaderError::Json { reason: format!("__metadata__: {e}") })?;
            } else {
                tensors.push(check_entry(name, value.get(), data_bytes)?);
            }
        }
        tensors.sort_by(|a, b| (a.begin, a.end, &a.name).cmp(&(b.begin, b.end, &b.name)));
        check_cover(&tensors, data_bytes)?;
        Ok(Header { data_start, tensors, metadata })
    }
}

/// One tensor by itself: dtype known, sizes without overflow, range within the data and as long as it must be.
fn check_entry(tensor: String, json: &str, data_bytes: u64) -> Result<TensorEntry, HeaderError> {
    let entry: RawEntry = match serde_json::from_str(json) {
        Ok(entry) => entry,
        Err(e) => return Err(HeaderError::Entry { tensor, reason: e.to_string() }),
    };
    let Some(dtype) = Dtype::from_name(&entry.dtype) else {
        return Err(HeaderError::UnsupportedDtype { tensor, found: entry.dtype });
    };
    // A zero dimension must not hide others whose product overflows: rows are computed from some of them.
    let product = |floor| {
        let bytes = dtype.bytes() as u64;
        entry.shape.iter().try_fold(bytes, |product, &d| product.checked_mul(d.max(floor)))
    };
    let shape: Option<Vec<usize>> = entry.shape.iter().map(|&d| usize::try_from(d).ok()).collect();
    let (Some(_), Some(expected), Some(shape)) = (product(1), product(0), shape) else {
        return Err(HeaderError::ShapeOverflow { tensor, shape: entry.shape });
    };
    let (begin, end) = entry.data_offsets;
    if begin > end {
        return Err(HeaderError::OffsetsReversed { tensor, begin, end });
    }
    if end > data_bytes {
        return Err(HeaderError::OffsetsPastEnd { tensor, end, available: data_bytes });
    }
    if end - begin != expected {
        return Err(HeaderError::ByteLength { tensor, dtype, shape, expected, found: end - begin });
    }
    // Both are at most the length of a slice, so they fit a usize.
    Ok(TensorEntry { name: tensor, dtype, shape, begin: begin as usize, end: end as usize })
}

/// All tensors together, sorted by their data: no overlap, no hole, nothing after the last.
fn check_cover(tensors: &[TensorEntry], data_bytes: u64) -> Result<(), HeaderError> {
    let mut covered = 0;
    for (n, tensor) in tensors.iter().enumerate() {
        if tensor.begin < covered {
            let first = &tensors[n - 1]; // covered > 0 only after a first tensor
            return Err(HeaderError::Overlap {
                first: first.name.clone(),
                second: tensor.name.clone(),
                begin: tensor.begin as u64,
                end: first.end as u64,
            });
        }
        if tensor.begin > covered {
            return Err(HeaderError::Hole {
                tensor: tensor.name.clone(),
                from: covered as u64,
                to: tensor.begin as u64,
            });
        }
        covered = tensor.end;
    }
    if covered as u64 != data_bytes {
        return Err(HeaderError::TrailingBytes { expected: covered as u64, found: data_bytes });
    }
    Ok(())
}

/// Reads a JSON object of strings and refuses a key given twice, which `serde_json`'s maps would swallow.
pub(crate) struct UniqueStrings(pub Vec<(String, String)>);

impl<'de> Deserialize<'de> for UniqueStrings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = UniqueStrings;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from tensor names to shard file names")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UniqueStrings, A::Error> {
                let mut pairs = Vec::new();
                let mut seen = std::collections::HashSet::new();
                while let Some((key, value)) = map.next_entry::<String, String>()? {
                    if !seen.insert(key.clone()) {
                        return Err(A::Error::custom(format!("tensor {key} is listed twice")));
                    }
                    pairs.push((key, value));
                }
                Ok(UniqueStrings(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}
