//! Bounds-checked reading of the header's fields.

use super::error::{FormatError, Place};

/// A position in the file's bytes and the part of the file being read, for errors.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    place: Here<'a>,
}

/// [`Place`] without an allocation for every key.
enum Here<'a> {
    Header,
    Key(u64),
    Value(&'a str),
    Tensor(u64),
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, place: Here::Header }
    }

    pub(super) fn enter_key(&mut self, index: u64) {
        self.place = Here::Key(index);
    }

    pub(super) fn enter_value(&mut self, key: &'a str) {
        self.place = Here::Value(key);
    }

    pub(super) fn enter_tensor(&mut self, index: u64) {
        self.place = Here::Tensor(index);
    }

    fn place(&self) -> Place {
        match &self.place {
            Here::Header => Place::Header,
            Here::Key(index) => Place::Key(*index),
            Here::Value(key) => Place::Value((*key).to_owned()),
            Here::Tensor(index) => Place::Tensor(*index),
        }
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> u64 {
        self.at as u64
    }

    /// Bytes not yet read.
    pub(super) fn remaining(&self) -> u64 {
        (self.bytes.len() - self.at) as u64
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], FormatError> {
        let rest = &self.bytes[self.at..];
        let Some(taken) = rest.get(..length) else {
            return Err(FormatError::Truncated {
                place: self.place(),
                at: self.at as u64,
                needed: length as u64,
                available: rest.len() as u64,
            });
        };
        self.at += length;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    pub(super) fn u32(&mut self) -> Result<u32, FormatError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, FormatError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A string: its length as u64, then its bytes, which must be UTF-8.
    pub(super) fn string(&mut self) -> Result<&'a str, FormatError> {
        let length = self.u64()?;
        let available = self.remaining();
        if length > available {
            return Err(FormatError::StringTooLong { place: self.place(), length, available });
        }
        // It is no longer than the bytes in memory, so it fits usize.
        let bytes = self.take(length as usize)?;
        std::str::from_utf8(bytes).map_err(|_| FormatError::NotUtf8 { place: self.place() })
    }
}
