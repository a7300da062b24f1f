//! Amounts of memory as people write and read them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Units with their bytes; the first of each size is the one that is printed.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// A number of bytes, written `4GiB`, `1.5 GB`, `512MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

/// Text that is no number of bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a number with a unit, for example 4GiB, 512MiB or 1.5GB")]
pub struct ByteSizeError;

impl FromStr for ByteSize {
    type Err = ByteSizeError;

    fn from_str(text: &str) -> Result<Self, ByteSizeError> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(ByteSizeError)?;
        let (number, unit) = (&text[..digits], text[digits..].trim_start());
        let (_, factor) =
            UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or(ByteSizeError)?;
        let number: f64 = number.parse().map_err(|_| ByteSizeError)?;
        let bytes = (number * *factor as f64).round();
        // an f64 above this may round to more than u64 holds
        if (1.0..=i64::MAX as f64).contains(&bytes) { Ok(Self(bytes as u64)) } else { Err(ByteSizeError) }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS[..4].iter().find(|(_, bytes)| self.0 >= *bytes) {
            Some((name, bytes)) => write!(f, "{:.2} {name}", self.0 as f64 / *bytes as f64),
            None => write!(f, "{} B", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        let bytes = |text: &str| text.parse::<ByteSize>().map(|size| size.0);
        assert_eq!(bytes("4GiB"), Ok(4 << 30));
        assert_eq!(bytes(" 2.5 gib "), Ok(5 << 29));
        assert_eq!(bytes("1.5GB"), Ok(1_500_000_000));
        assert_eq!(bytes("700 b"), Ok(700));
        for wrong in
            ["", "4", "GiB", "4 Gib/s", "-1GiB", "1.2.3GiB", "nanGiB", "0MiB", "99999999999TiB", "4Gi"]
        {
            assert_eq!(bytes(wrong), Err(ByteSizeError), "{wrong:?}");
        }
    }

    #[test]
    fn sizes_are_printed_in_the_largest_unit() {
        assert_eq!(ByteSize(5 << 29).to_string(), "2.50 GiB");
        assert_eq!(ByteSize(1023).to_string(), "1023 B");
    }
}
