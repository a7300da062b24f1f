//! The header of a GGUF file, parsed from untrusted bytes.
//!
//! Nothing is allocated for a count or a length before the rest of the file is known to have room for it.

use std::collections::HashSet;

use super::cursor::Cursor;
use super::error::FormatError;
use super::metadata::Metadata;
use super::tensor_info::{TensorInfo, check_name};
use super::value::{Array, Strings, Value, ValueType};
use super::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAX_ARRAY_DEPTH, MAX_DIMENSIONS, MAX_KEY};
use crate::TensorType;

/// Fewest bytes of a metadata entry: key length, one byte of key, value type, one byte of value.
const MIN_ENTRY_BYTES: u64 = 8 + 1 + 4 + 1;

/// Fewest bytes of a tensor description: name length, one byte of name, dims, one extent, type, offset.
const MIN_TENSOR_BYTES: u64 = 8 + 1 + 4 + 8 + 4 + 8;

/// Everything of a GGUF file but the tensors' data.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// The file's GGUF version, 2 or 3.
    pub version: u32,
    /// The metadata in file order.
    pub metadata: Metadata,
    /// The tensors in file order.
    pub tensors: Vec<TensorInfo>,
    /// Bytes from the start of the file to the data section.
    pub data_offset: u64,
}

impl Header {
    /// Parses and checks the header of `file`, which holds the whole file: tensor data ranges are checked against its length.
    ///
    /// # Errors
    /// One [`FormatError`] variant for each kind of corruption.
    pub fn parse(file: &[u8]) -> Result<Self, FormatError> {
        let mut cursor = Cursor::new(file);
        let magic: [u8; 4] = cursor.array()?;
        if &magic != b"GGUF" {
            return Err(FormatError::NotGguf { found: magic.to_vec() });
        }
        let version = cursor.u32()?;
        match version {
            2 | 3 => {}
            v if v & 0xffff == 0 => return Err(FormatError::BigEndian { version }),
            _ => return Err(FormatError::UnsupportedVersion { version }),
        }
        let tensor_count = cursor.u64()?;
        let entry_count = cursor.u64()?;
        let room = cursor.remaining() / MIN_ENTRY_BYTES;
        if entry_count > room {
            return Err(FormatError::TooManyEntries { count: entry_count, room });
        }
        let mut metadata = Metadata::new();
        for index in 0..entry_count {
            let (key, value) = entry(&mut cursor, index)?;
            if metadata.insert(key, value).is_some() {
                return Err(FormatError::DuplicateKey { key: key.to_owned() });
            }
        }
        let alignment = alignment(&metadata)?;
        let room = cursor.remaining() / MIN_TENSOR_BYTES;
        if tensor_count > room {
            return Err(FormatError::TooManyTensors { count: tensor_count, room });
        }
        let mut tensors = Vec::new();
        for index in 0..tensor_count {
            tensors.push(tensor(&mut cursor, index)?);
        }
        // The header lies in memory and the alignment fits u32: the sum cannot overflow.
        let data_offset = cursor.position().next_multiple_of(alignment);
        let available = (file.len() as u64).saturating_sub(data_offset);
        check_places(&tensors, alignment, available)?;
        Ok(Self { version, metadata, tensors, data_offset })
    }
}

fn entry<'a>(cursor: &mut Cursor<'a>, index: u64) -> Result<(&'a str, Value), FormatError> {
    cursor.enter_key(index);
    let key = cursor.string()?;
    check_key(index, key)?;
    cursor.enter_value(key);
    let ty = value_type(cursor, key)?;
    let value = match ty {
        ValueType::U8 => Value::U8(cursor.array::<1>()?[0]),
        ValueType::I8 => Value::I8(cursor.array::<1>()?[0] as i8),
        ValueType::U16 => Value::U16(u16::from_le_bytes(cursor.array()?)),
        ValueType::I16 => Value::I16(i16::from_le_bytes(cursor.array()?)),
        ValueType::U32 => Value::U32(u32::from_le_bytes(cursor.array()?)),
        ValueType::I32 => Value::I32(i32::from_le_bytes(cursor.array()?)),
        ValueType::F32 => Value::F32(f32::from_le_bytes(cursor.array()?)),
        ValueType::Bool => Value::Bool(boolean(key, cursor.array::<1>()?[0])?),
        ValueType::String => Value::String(cursor.string()?.to_owned()),
        ValueType::Array => Value::Array(array(cursor, key, 1)?),
        ValueType::U64 => Value::U64(u64::from_le_bytes(cursor.array()?)),
        ValueType::I64 => Value::I64(i64::from_le_bytes(cursor.array()?)),
        ValueType::F64 => Value::F64(f64::from_le_bytes(cursor.array()?)),
    };
    Ok((key, value))
}

/// Refuses keys outside the specification.
pub(super) fn check_key(index: u64, key: &str) -> Result<(), FormatError> {
    if key.is_empty() {
        return Err(FormatError::EmptyKey { index });
    }
    if key.len() > MAX_KEY {
        return Err(FormatError::KeyTooLong { length: key.len() as u64 });
    }
    Ok(())
}

fn value_type(cursor: &mut Cursor<'_>, key: &str) -> Result<ValueType, FormatError> {
    let id = cursor.u32()?;
    ValueType::from_id(id).ok_or_else(|| FormatError::UnknownValueType { key: key.to_owned(), id })
}

fn boolean(key: &str, byte: u8) -> Result<bool, FormatError> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        value => Err(FormatError::NotABoolean { key: key.to_owned(), value }),
    }
}

fn array(cursor: &mut Cursor<'_>, key: &str, depth: usize) -> Result<Array, FormatError> {
    if depth > MAX_ARRAY_DEPTH {
        return Err(FormatError::ArrayTooDeep { key: key.to_owned(), at_most: MAX_ARRAY_DEPTH });
    }
    let ty = value_type(cursor, key)?;
    let count = cursor.u64()?;
    let available = cursor.remaining();
    if count > available / ty.min_bytes() as u64 {
        return Err(FormatError::ArrayTooLong { key: key.to_owned(), count, available });
    }
    // It takes no more bytes than are in memory, so it fits usize.
    let count = count as usize;
    Ok(match ty {
        ValueType::U8 => Array::U8(cursor.take(count)?.to_vec()),
        ValueType::I8 => Array::I8(cursor.take(count)?.iter().map(|&b| b as i8).collect()),
        ValueType::U16 => Array::U16(numbers(cursor, count, u16::from_le_bytes)?),
        ValueType::I16 => Array::I16(numbers(cursor, count, i16::from_le_bytes)?),
        ValueType::U32 => Array::U32(numbers(cursor, count, u32::from_le_bytes)?),
        ValueType::I32 => Array::I32(numbers(cursor, count, i32::from_le_bytes)?),
        ValueType::F32 => Array::F32(numbers(cursor, count, f32::from_le_bytes)?),
        ValueType::U64 => Array::U64(numbers(cursor, count, u64::from_le_bytes)?),
        ValueType::I64 => Array::I64(numbers(cursor, count, i64::from_le_bytes)?),
        ValueType::F64 => Array::F64(numbers(cursor, count, f64::from_le_bytes)?),
        ValueType::Bool => {
            Array::Bool(cursor.take(count)?.iter().map(|&b| boolean(key, b)).collect::<Result<_, _>>()?)
        }
        ValueType::String => {
            let mut strings = Strings::default();
            for _ in 0..count {
                strings.push(cursor.string()?);
            }
            Array::Strings(strings)
        }
        ValueType::Array => {
            let mut arrays = Vec::new();
            for _ in 0..count {
                arrays.push(array(cursor, key, depth + 1)?);
            }
            Array::Arrays(arrays)
        }
    })
}

fn numbers<T, const N: usize>(
    cursor: &mut Cursor<'_>,
    count: usize,
    from_bytes: impl Fn([u8; N]) -> T,
) -> Result<Vec<T>, FormatError> {
    // `count * N` was compared with the bytes left before.
    let (chunks, _) = cursor.take(count * N)?.as_chunks::<N>();
    Ok(chunks.iter().map(|chunk| from_bytes(*chunk)).collect())
}

/// `general.alignment`, or the default: a power of two.
pub(super) fn alignment(metadata: &Metadata) -> Result<u64, FormatError> {
    match metadata.get(ALIGNMENT_KEY) {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(Value::U32(a)) if a.is_power_of_two() => Ok((*a).into()),
        Some(other) => Err(FormatError::BadAlignment { found: format!("{} {other}", other.value_type()) }),
    }
}

fn tensor(cursor: &mut Cursor<'_>, index: u64) -> Result<TensorInfo, FormatError> {
    cursor.enter_tensor(index);
    let name = cursor.string()?;
    check_name(index, name)?;
    let dimensions = cursor.u32()?;
    if dimensions == 0 || dimensions as usize > MAX_DIMENSIONS {
        return Err(FormatError::BadDimensions { tensor: name.to_owned(), dimensions: dimensions.into() });
    }
    let mut shape = (0..dimensions).map(|_| cursor.u64()).collect::<Result<Vec<_>, _>>()?;
    shape.reverse();
    let id = cursor.u32()?;
    let offset = cursor.u64()?;
    let Some(ty) = TensorType::from_ggml_id(id) else {
        return Err(FormatError::UnknownTensorType { tensor: name.to_owned(), id });
    };
    TensorInfo::new(index, name.to_owned(), shape, ty, offset)
}

/// Names are unique; data ranges are aligned, inside the data section of `available` bytes, and disjoint.
fn check_places(tensors: &[TensorInfo], alignment: u64, available: u64) -> Result<(), FormatError> {
    let mut names = HashSet::with_capacity(tensors.len());
    for t in tensors {
        if !names.insert(t.name.as_str()) {
            return Err(FormatError::DuplicateTensor { tensor: t.name.clone() });
        }
        if !t.offset.is_multiple_of(alignment) {
            return Err(FormatError::Misaligned { tensor: t.name.clone(), offset: t.offset, alignment });
        }
        let bytes = t.byte_len() as u64;
        if t.offset.checked_add(bytes).is_none_or(|end| end > available) {
            return Err(FormatError::OutOfBounds {
                tensor: t.name.clone(),
                offset: t.offset,
                bytes,
                available,
            });
        }
    }
    let mut by_offset: Vec<&TensorInfo> = tensors.iter().collect();
    by_offset.sort_by_key(|t| t.offset);
    for pair in by_offset.windows(2) {
        if pair[0].offset + pair[0].byte_len() as u64 > pair[1].offset {
            return Err(FormatError::Overlap { first: pair[0].name.clone(), second: pair[1].name.clone() });
        }
    }
    Ok(())
}
