//! Where everything of a file to be written will lie, known before any tensor is.

use std::collections::HashMap;

use super::error::FormatError;
use super::metadata::Metadata;
use super::parse::{alignment, check_key};
use super::tensor_info::TensorInfo;
use super::value::Value;
use super::{MAX_ARRAY_DEPTH, encode};
use crate::TensorType;

/// Metadata, tensors and their offsets of one GGUF file; its exact size in advance.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    index: HashMap<String, usize>,
    header: Vec<u8>,
    alignment: u64,
    data_offset: u64,
    total_bytes: u64,
}

impl Layout {
    /// Places `(name, shape, type)` one after the other; shapes are outermost first. The alignment is
    /// `general.alignment` of the metadata, or 32.
    ///
    /// # Errors
    /// What the reader would refuse: see [`FormatError`].
    pub fn new(
        metadata: Metadata,
        tensors: impl IntoIterator<Item = (String, Vec<usize>, TensorType)>,
    ) -> Result<Self, FormatError> {
        for (position, (key, value)) in metadata.iter().enumerate() {
            check_key(position as u64, key)?;
            if let Value::Array(a) = value
                && a.depth() > MAX_ARRAY_DEPTH
            {
                return Err(FormatError::ArrayTooDeep { key: key.to_owned(), at_most: MAX_ARRAY_DEPTH });
            }
        }
        let alignment = alignment(&metadata)?;
        let mut placed = Vec::new();
        let mut index = HashMap::new();
        let mut offset = 0u64;
        for (position, (name, shape, ty)) in tensors.into_iter().enumerate() {
            let shape = shape.into_iter().map(|extent| extent as u64).collect();
            let tensor = TensorInfo::new(position as u64, name, shape, ty, offset)?;
            if index.insert(tensor.name.clone(), position).is_some() {
                return Err(FormatError::DuplicateTensor { tensor: tensor.name });
            }
            offset = padded_end(offset, tensor.byte_len() as u64, alignment)?;
            placed.push(tensor);
        }
        let header = encode::header(&metadata, &placed);
        let data_offset = padded_end(0, header.len() as u64, alignment)?;
        let total_bytes = padded_end(data_offset, offset, alignment)?;
        Ok(Self { metadata, tensors: placed, index, header, alignment, data_offset, total_bytes })
    }

    /// The metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The tensors in file order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.position(name).map(|at| &self.tensors[at])
    }

    /// Bytes of the whole file.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Bytes that a tensor of `bytes` takes, its padding included.
    pub fn padded(&self, bytes: u64) -> u64 {
        bytes.next_multiple_of(self.alignment)
    }

    /// Bytes before the data section: header and its padding.
    pub fn data_offset(&self) -> u64 {
        self.data_offset
    }

    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    pub(super) fn header(&self) -> &[u8] {
        &self.header
    }

    /// What tensors are padded to.
    pub fn alignment(&self) -> u64 {
        self.alignment
    }
}

/// End of `bytes` bytes at `start`, rounded up to the alignment; files are limited to 2^63 - 1 bytes.
fn padded_end(start: u64, bytes: u64, alignment: u64) -> Result<u64, FormatError> {
    start
        .checked_add(bytes)
        .and_then(|end| end.checked_next_multiple_of(alignment))
        .filter(|&end| i64::try_from(end).is_ok())
        .ok_or(FormatError::TooLarge)
}
