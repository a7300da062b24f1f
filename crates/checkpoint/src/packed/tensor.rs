//! The parts of one packed weight, checked, and its rows as f32.

use std::collections::HashMap;
use std::ops::Range;

use thiserror::Error;

use super::{PackScheme, bits, part};
use crate::convert::{self, NonFinite};
use crate::{Dtype, TensorInfo};

/// A packed weight whose parts fit each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedTensor {
    /// d_out and d_in.
    pub shape: [usize; 2],
    /// Bits, groups, symmetry.
    pub scheme: PackScheme,
    /// Weights that share a scale.
    pub group_len: usize,
    /// How scales are stored, and values rounded.
    pub scale_dtype: Dtype,
    /// Name of its codes' tensor.
    pub packed: String,
    /// Name of its scales' tensor.
    pub scale: String,
    /// Name of its zero points' tensor, where not symmetric.
    pub zero_point: Option<String>,
    /// Name of the tensor that holds its shape.
    pub shape_part: String,
}

/// Parts of a packed weight that do not fit.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PackedError {
    /// A part that must be there is not.
    #[error("there is no {part}")]
    Missing {
        /// The part.
        part: &'static str,
    },
    /// A part that is not understood, or that contradicts another.
    #[error("{part} must not be there beside {}: {why}", part::PACKED)]
    Unexpected {
        /// The part.
        part: &'static str,
        /// Why not.
        why: &'static str,
    },
    /// A part has another dtype or shape than it must have.
    #[error("{part} is {found}; expected {expected}")]
    Part {
        /// The part.
        part: &'static str,
        /// What it must be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// The shape cannot be one of a weight under this scheme.
    #[error(
        "{} says {found:?}; expected two dimensions from 1 to 16777216, the second one a multiple of the group size {group}",
        part::SHAPE
    )]
    Shape {
        /// What it says.
        found: [i64; 2],
        /// The group size.
        group: super::GroupSize,
    },
}

/// All packed weights among `tensors`, by the name that the weight would have unpacked. `bytes` gives a tensor's bytes.
///
/// # Errors
/// Parts that do not fit, with the weight's name.
pub(crate) fn find<'a>(
    scheme: PackScheme,
    tensors: &[TensorInfo],
    by_name: &HashMap<String, usize>,
    bytes: impl Fn(&TensorInfo) -> &'a [u8],
) -> Result<HashMap<String, PackedTensor>, (String, PackedError)> {
    let mut found = HashMap::new();
    for info in tensors {
        let Some(module) = info.name.strip_suffix(part::PACKED).filter(|m| m.ends_with('.')) else {
            continue;
        };
        let find = |part| by_name.get(&format!("{module}{part}")).map(|&n| &tensors[n]);
        let weight = format!("{module}weight");
        let tensor = check(scheme, info, find, &bytes).map_err(|error| (weight.clone(), error))?;
        found.insert(weight, tensor);
    }
    Ok(found)
}

fn check<'a, 't>(
    scheme: PackScheme,
    packed: &TensorInfo,
    find: impl Fn(&'static str) -> Option<&'t TensorInfo>,
    bytes: &impl Fn(&TensorInfo) -> &'a [u8],
) -> Result<PackedTensor, PackedError> {
    if find("weight").is_some() {
        return Err(PackedError::Unexpected { part: "weight", why: "it is the same weight again" });
    }
    if find(part::GROUP_INDEX).is_some() {
        let why = "columns of a group must be neighbours";
        return Err(PackedError::Unexpected { part: part::GROUP_INDEX, why });
    }
    let missing = |part| PackedError::Missing { part };
    let shape = find(part::SHAPE).ok_or(missing(part::SHAPE))?;
    let shape_part = shape.name.clone();
    expect(part::SHAPE, shape, Dtype::I64, &[2])?;
    let [rows, columns] = [0, 8].map(|at| bytes(shape)[at..at + 8].try_into().map_or(0, i64::from_le_bytes));
    let bad_shape = || PackedError::Shape { found: [rows, columns], group: scheme.group };
    let dimension =
        |d: i64| usize::try_from(d).ok().filter(|d| (1..=1 << 24).contains(d)).ok_or_else(bad_shape);
    let shape = [dimension(rows)?, dimension(columns)?];
    let group_len = scheme.group_len(shape[1]).ok_or_else(bad_shape)?;
    let groups = shape[1] / group_len;
    expect(part::PACKED, packed, Dtype::I32, &[shape[0], scheme.words(shape[1])])?;
    let scale = find(part::SCALE).ok_or(missing(part::SCALE))?;
    let scale_dtype = if scale.dtype.is_float() { scale.dtype } else { Dtype::F16 };
    expect(part::SCALE, scale, scale_dtype, &[shape[0], groups])?;
    let zero_point = match (scheme.symmetric, find(part::ZERO_POINT)) {
        (true, None) => None,
        (false, None) => return Err(missing(part::ZERO_POINT)),
        (true, Some(_)) => {
            let why = "config.json says that the weights are symmetric";
            return Err(PackedError::Unexpected { part: part::ZERO_POINT, why });
        }
        (false, Some(zeros)) => {
            expect(part::ZERO_POINT, zeros, Dtype::I32, &[scheme.words(shape[0]), groups])?;
            Some(zeros.name.clone())
        }
    };
    let (packed, scale) = (packed.name.clone(), scale.name.clone());
    Ok(PackedTensor { shape, scheme, group_len, scale_dtype, packed, scale, zero_point, shape_part })
}

fn expect(part: &'static str, info: &TensorInfo, dtype: Dtype, shape: &[usize]) -> Result<(), PackedError> {
    if info.dtype == dtype && info.shape == shape {
        return Ok(());
    }
    let (expected, found) = (format!("{dtype} {shape:?}"), format!("{} {:?}", info.dtype, info.shape));
    Err(PackedError::Part { part, expected, found })
}

impl PackedTensor {
    /// The names of the tensors that it is made of.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        [self.packed.as_str(), &self.scale, &self.shape_part].into_iter().chain(self.zero_point.as_deref())
    }

    /// Decodes `rows` into `out` (`[rows, d_in]`), from all bytes of the three parts.
    ///
    /// # Errors
    /// A scale that is not finite, or a value that its dtype cannot hold; the index is the value's in `out`.
    pub(crate) fn decode(
        &self,
        rows: Range<usize>,
        packed: &[u8],
        scale: &[u8],
        zero_point: Option<&[u8]>,
        out: &mut [f32],
    ) -> Result<(), NonFinite> {
        let [_, columns] = self.shape;
        let (groups, code_bytes) = (columns / self.group_len, self.scheme.words(columns) * bits::WORD_BYTES);
        let scale_bytes = groups * self.scale_dtype.bytes();
        let mut codes = vec![0; columns];
        let (mut scales, mut zeros) = (vec![0.0; groups], vec![self.scheme.middle(); groups]);
        let mut rounded = vec![0; columns * self.scale_dtype.bytes()];
        for (n, (row, out)) in rows.zip(out.chunks_exact_mut(columns)).enumerate() {
            let locate =
                |found: NonFinite, width| NonFinite { index: n * columns + found.index * width, ..found };
            bits::unpack(&packed[row * code_bytes..][..code_bytes], self.scheme.bits, &mut codes);
            convert::to_f32(self.scale_dtype, &scale[row * scale_bytes..][..scale_bytes], &mut scales)
                .map_err(|found| locate(found, self.group_len))?;
            if let Some(words) = zero_point {
                for (group, zero) in zeros.iter_mut().enumerate() {
                    *zero = bits::code_at(row, self.scheme.bits, |word| {
                        u32::from_le_bytes(words.as_chunks().0[word * groups + group])
                    });
                }
            }
            decode_row(&codes, &scales, &zeros, self.group_len, self.scale_dtype, &mut rounded, out)
                .map_err(|found| locate(found, 1))?;
        }
        Ok(())
    }
}

/// scale · (code − zero) for one row, rounded to `dtype` as its product is; `rounded` is working space of as many bytes as
/// the row takes in it.
fn decode_row(
    codes: &[u8],
    scales: &[f32],
    zeros: &[u8],
    group_len: usize,
    dtype: Dtype,
    rounded: &mut [u8],
    out: &mut [f32],
) -> Result<(), NonFinite> {
    let groups = codes.chunks_exact(group_len).zip(out.chunks_exact_mut(group_len));
    for ((codes, out), (scale, zero)) in groups.zip(scales.iter().zip(zeros)) {
        for (value, code) in out.iter_mut().zip(codes) {
            *value = scale * (i32::from(*code) - i32::from(*zero)) as f32;
        }
    }
    convert::from_f32(dtype, out, rounded)?;
    convert::to_f32(dtype, rounded, out)
}
