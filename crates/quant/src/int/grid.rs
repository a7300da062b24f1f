//! What an integer grid can store, and how a group lies in memory.

use std::fmt;

use half::{bf16, f16};
use serde::{Serialize, Serializer};
use slmc_checkpoint::Dtype;
use slmc_checkpoint::packed::{GroupSize, PackScheme, bits};
use slmc_gguf::blocks::{BlockError, GramBlocks, LONGEST_RUN};

use super::fit::ScaleRule;
use super::refine::refine_groups;
use super::tile::encode_groups;
use crate::error::check_length;
use crate::{Grid, QuantError};

/// Bits, groups and symmetry, for tensors of any width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IntScheme(PackScheme);

impl IntScheme {
    /// The bits there are grids for.
    pub const BITS: [u32; 4] = [2, 3, 4, 8];

    /// The group sizes there are grids for, beside whole rows.
    pub const GROUPS: [usize; 3] = [32, 64, 128];

    /// A scheme.
    ///
    /// # Errors
    /// Bits or a group size without a grid; the message names those that have one.
    pub fn new(bits: u32, group: GroupSize, symmetric: bool) -> Result<Self, String> {
        if !Self::BITS.contains(&bits) {
            return Err(format!("no integer grid has {bits} bits a weight; choose one of 2, 3, 4, 8"));
        }
        match group {
            GroupSize::Columns(n) if !Self::GROUPS.contains(&n) => {
                Err(format!("no integer grid has groups of {n} columns; choose one of 32, 64, 128, channel"))
            }
            _ => Ok(Self(PackScheme { bits, group, symmetric })),
        }
    }

    /// As a container stores it.
    pub fn packing(&self) -> &PackScheme {
        &self.0
    }

    /// The grid for rows of `columns` weights, with scales stored as `scales`; `None` where groups do not divide them.
    ///
    /// # Panics
    /// If `scales` is no type of floats.
    pub fn grid(self, columns: usize, scales: Dtype) -> Option<IntGrid> {
        assert!(scales.is_float(), "scales are floats");
        Some(IntGrid { scheme: self, group_len: self.0.group_len(columns)?, scales })
    }
}

impl fmt::Display for IntScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for IntScheme {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An [`IntScheme`] for tensors of one width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IntGrid {
    scheme: IntScheme,
    group_len: usize,
    scales: Dtype,
}

/// One group as it is stored.
#[derive(Clone, Copy, Debug)]
pub struct EncodedGroup<'a> {
    /// Packed codes.
    pub codes: &'a [u8],
    /// The scale, little-endian.
    pub scale: &'a [u8],
    /// The code of weight 0.
    pub zero: u8,
}

impl IntGrid {
    /// The scheme it was made of.
    pub fn scheme(&self) -> IntScheme {
        self.scheme
    }

    /// Weights that share a scale.
    pub fn group_len(&self) -> usize {
        self.group_len
    }

    /// How scales are stored.
    pub fn scale_dtype(&self) -> Dtype {
        self.scales
    }

    /// The largest code.
    pub(crate) fn highest(&self) -> u8 {
        self.scheme.0.highest()
    }

    /// The zero of symmetric groups.
    pub(crate) fn middle(&self) -> u8 {
        self.scheme.0.middle()
    }

    pub(crate) fn is_symmetric(&self) -> bool {
        self.scheme.0.symmetric
    }

    /// Bytes of a group: codes, scale, and zero where not symmetric.
    pub fn group_bytes(&self) -> usize {
        self.code_bytes() + self.scales.bytes() + usize::from(!self.is_symmetric())
    }

    /// Bytes that a weight of `rows` and `columns` takes in a file, its shape not counted.
    pub fn stored_bytes(&self, rows: usize, columns: usize) -> u64 {
        let (packing, groups) = (self.scheme.0, (columns / self.group_len) as u64);
        let words = |count| packing.words(count) as u64 * bits::WORD_BYTES as u64;
        let zeros = if packing.symmetric { 0 } else { words(rows) * groups };
        words(columns) * rows as u64 + groups * rows as u64 * self.scales.bytes() as u64 + zeros
    }

    /// The parts of an encoded group.
    ///
    /// # Panics
    /// If `group` has not the bytes of one.
    pub fn split<'a>(&self, group: &'a [u8]) -> EncodedGroup<'a> {
        assert_eq!(group.len(), self.group_bytes());
        let (codes, rest) = group.split_at(self.code_bytes());
        let (scale, zero) = rest.split_at(self.scales.bytes());
        EncodedGroup { codes, scale, zero: zero.first().copied().unwrap_or(self.middle()) }
    }

    fn code_bytes(&self) -> usize {
        self.scheme.0.words(self.group_len) * bits::WORD_BYTES
    }

    /// `scale` as it is stored: the nearest of its dtype, finite.
    pub(crate) fn stored_scale(&self, scale: f32) -> f32 {
        match self.scales {
            Dtype::F16 => f16::from_f32(scale.clamp(f16::MIN.to_f32(), f16::MAX.to_f32())).to_f32(),
            Dtype::BF16 => bf16::from_f32(scale.clamp(bf16::MIN.to_f32(), bf16::MAX.to_f32())).to_f32(),
            _ => scale,
        }
    }

    /// Lays a group out; `scale` is one that can be stored.
    pub(crate) fn pack(&self, codes: &[u8], scale: f32, zero: u8, out: &mut [u8]) {
        let (packed, rest) = out.split_at_mut(self.code_bytes());
        bits::pack(codes, self.scheme.0.bits, packed);
        let (stored, rest) = rest.split_at_mut(self.scales.bytes());
        match self.scales {
            Dtype::F16 => stored.copy_from_slice(&f16::from_f32(scale).to_le_bytes()),
            Dtype::BF16 => stored.copy_from_slice(&bf16::from_f32(scale).to_le_bytes()),
            _ => stored.copy_from_slice(&scale.to_le_bytes()),
        }
        rest.fill(zero);
    }

    /// A stored scale.
    pub(crate) fn scale(&self, stored: &[u8]) -> f32 {
        match self.scales {
            Dtype::F16 => f16::from_le_bytes([stored[0], stored[1]]).to_f32(),
            Dtype::BF16 => bf16::from_le_bytes([stored[0], stored[1]]).to_f32(),
            _ => f32::from_le_bytes([stored[0], stored[1], stored[2], stored[3]]),
        }
    }

    /// A weight as readers compute it: in the scales' dtype.
    fn value(&self, scale: f32, code: u8, zero: u8) -> f32 {
        let value = scale * (i32::from(code) - i32::from(zero)) as f32;
        match self.scales {
            Dtype::F16 => f16::from_f32(value).to_f32(),
            Dtype::BF16 => bf16::from_f32(value).to_f32(),
            _ => value,
        }
    }
}

impl fmt::Display for IntGrid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.scheme.fmt(f)
    }
}

impl Grid for IntGrid {
    fn name(self) -> String {
        self.to_string()
    }

    fn block_len(self) -> usize {
        self.group_len
    }

    fn row_bytes(self, columns: usize) -> Option<usize> {
        let groups = columns / self.group_len;
        columns.is_multiple_of(self.group_len).then(|| groups.checked_mul(self.group_bytes())).flatten()
    }

    /// Zero points are codes.
    fn holds_zero(self) -> bool {
        true
    }

    fn encode(
        self,
        rows: &[f32],
        columns: usize,
        importance: Option<&[f32]>,
        out: &mut [u8],
    ) -> Result<(), QuantError> {
        let row_bytes = crate::rtn::row_bytes(self, columns)?;
        let count = crate::error::count_rows("rows", rows.len(), columns)?;
        check_length("encoded rows", out, count * row_bytes)?;
        if let Some(importance) = importance {
            check_length("importance", importance, columns)?;
            if let Some(index) = importance.iter().position(|w| !(w.is_finite() && *w >= 0.0)) {
                return Err(QuantError::Value { what: "importance", index, value: importance[index] });
            }
        }
        if let Some(index) = rows.iter().position(|w| !w.is_finite()) {
            return Err(BlockError::NonFinite { index, value: rows[index] }.into());
        }
        encode_groups(self, ScaleRule::Search, rows, importance, out);
        Ok(())
    }

    fn run_len(self) -> Option<usize> {
        let fine = super::tile::levels(self).are_many();
        (!fine && self.group_len <= LONGEST_RUN).then_some(self.group_len)
    }

    fn refine(
        self,
        rows: &[f32],
        columns: usize,
        gram: &GramBlocks,
        bytes: &mut [u8],
    ) -> Result<(), QuantError> {
        if self.run_len().is_none() {
            return Ok(());
        }
        let row_bytes = crate::rtn::row_bytes(self, columns)?;
        let count = crate::error::count_rows("rows", rows.len(), columns)?;
        check_length("encoded rows", bytes, count * row_bytes)?;
        if gram.columns() != columns || gram.run_len() != self.group_len {
            let (expected, found) = (columns * self.group_len, gram.values().len());
            return Err(QuantError::Length { what: "products of a group's inputs", expected, found });
        }
        if let Some(index) = rows.iter().position(|w| !w.is_finite()) {
            return Err(BlockError::NonFinite { index, value: rows[index] }.into());
        }
        refine_groups(self, rows, columns, gram, bytes);
        Ok(())
    }

    fn decode(self, bytes: &[u8], out: &mut [f32]) -> Result<(), QuantError> {
        let groups = crate::error::count_rows("decoded groups", out.len(), self.group_len)?;
        check_length("encoded groups", bytes, groups * self.group_bytes())?;
        let mut codes = vec![0; self.group_len];
        for (group, out) in bytes.chunks_exact(self.group_bytes()).zip(out.chunks_exact_mut(self.group_len)) {
            let group = self.split(group);
            bits::unpack(group.codes, self.scheme.0.bits, &mut codes);
            let scale = self.scale(group.scale);
            // every value a group can have, once
            let mut values = [0.0; 256];
            for code in 0..=self.highest() {
                values[usize::from(code)] = self.value(scale, code, group.zero);
            }
            for (value, code) in out.iter_mut().zip(&codes) {
                *value = values[usize::from(*code)];
            }
        }
        Ok(())
    }
}
