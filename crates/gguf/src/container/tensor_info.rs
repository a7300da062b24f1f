//! The description of one tensor in a GGUF file.

use super::error::FormatError;
use super::{MAX_DIMENSIONS, MAX_TENSOR_NAME};
use crate::TensorType;

/// Name, shape, type and place of one tensor. Made by the reader and by [`super::Layout`], always checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// For example `blk.0.attn_q.weight`.
    pub name: String,
    /// Extents, outermost first: `[d_out, d_in]` for a linear layer. Files store them reversed.
    pub shape: Vec<usize>,
    /// How the values are stored.
    pub ty: TensorType,
    /// Bytes from the start of the data section to the first block.
    pub offset: u64,
    bytes: usize,
}

impl TensorInfo {
    /// Checks name, shape and type; `shape` is outermost first, `index` the tensor's place for errors.
    ///
    /// # Errors
    /// An empty or long name, a number of dimensions outside 1 to 4, an empty dimension, a size that overflows, rows that
    /// are no whole number of blocks.
    pub(super) fn new(
        index: u64,
        name: String,
        shape: Vec<u64>,
        ty: TensorType,
        offset: u64,
    ) -> Result<Self, FormatError> {
        check_name(index, &name)?;
        if shape.is_empty() || shape.len() > MAX_DIMENSIONS {
            return Err(FormatError::BadDimensions { tensor: name, dimensions: shape.len() as u64 });
        }
        if shape.contains(&0) {
            return Err(FormatError::EmptyDimension { tensor: name, shape });
        }
        let columns = shape[shape.len() - 1];
        if !columns.is_multiple_of(ty.block_len() as u64) {
            return Err(FormatError::PartialBlock { tensor: name, columns, ty });
        }
        // ggml keeps element counts and sizes in signed 64-bit integers.
        let bytes = shape
            .iter()
            .try_fold(1u64, |product, &extent| product.checked_mul(extent))
            .filter(|&n| i64::try_from(n).is_ok())
            .and_then(|n| usize::try_from(n).ok())
            .and_then(|n| ty.bytes_for(n))
            .filter(|&bytes| i64::try_from(bytes).is_ok());
        let Some(bytes) = bytes else {
            return Err(FormatError::ShapeOverflow { tensor: name, shape });
        };
        // Every extent is at most the product, which fits usize.
        let shape = shape.into_iter().map(|extent| extent as usize).collect();
        Ok(Self { name, shape, ty, offset, bytes })
    }

    /// Bytes of the tensor's data, without padding.
    pub fn byte_len(&self) -> usize {
        self.bytes
    }

    /// Number of values.
    pub fn element_count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Length of a row: the innermost extent.
    pub fn columns(&self) -> usize {
        self.shape[self.shape.len() - 1]
    }

    /// Number of rows: the product of all other extents.
    pub fn rows(&self) -> usize {
        self.element_count() / self.columns()
    }

    /// Bytes of one row.
    pub fn row_bytes(&self) -> usize {
        self.bytes / self.rows()
    }
}

/// Refuses names that llama.cpp would not load.
pub(super) fn check_name(index: u64, name: &str) -> Result<(), FormatError> {
    if name.is_empty() {
        return Err(FormatError::EmptyTensorName { index });
    }
    if name.len() > MAX_TENSOR_NAME {
        return Err(FormatError::TensorNameTooLong { length: name.len(), name: name.to_owned() });
    }
    Ok(())
}
