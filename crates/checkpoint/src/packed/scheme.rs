//! How the integers of a packed checkpoint stand for weights.

use std::fmt;
use std::str::FromStr;

use super::bits;

/// Which weights of a row share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GroupSize {
    /// This many neighbours; a row must be a whole number of groups.
    Columns(usize),
    /// All.
    Channel,
}

impl fmt::Display for GroupSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Columns(n) => write!(f, "{n}"),
            Self::Channel => f.write_str("channel"),
        }
    }
}

impl FromStr for GroupSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "channel" => Ok(Self::Channel),
            _ => match text.parse() {
                Ok(n) if n > 0 => Ok(Self::Columns(n)),
                _ => Err("expected a number of columns or `channel`".into()),
            },
        }
    }
}

/// Bits, groups and symmetry of a packed checkpoint's weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PackScheme {
    /// Bits a code, 2 to 8.
    pub bits: u32,
    /// Weights that share a scale.
    pub group: GroupSize,
    /// Whether the zero is 2^(bits − 1) everywhere.
    pub symmetric: bool,
}

impl fmt::Display for PackScheme {
    /// `int4_g128`, `int3_channel_asymmetric`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = match self.group {
            GroupSize::Columns(n) => format!("g{n}"),
            GroupSize::Channel => "channel".into(),
        };
        f.pad(&format!("int{}_{group}{}", self.bits, if self.symmetric { "" } else { "_asymmetric" }))
    }
}

impl PackScheme {
    /// Words of a row's codes.
    pub fn words(&self, columns: usize) -> usize {
        bits::words(columns, self.bits)
    }

    /// Weights that share a scale, in rows of `columns`; `None` where groups do not divide them.
    pub fn group_len(&self, columns: usize) -> Option<usize> {
        match self.group {
            GroupSize::Channel => (columns > 0).then_some(columns),
            GroupSize::Columns(n) => (n > 0 && columns > 0 && columns.is_multiple_of(n)).then_some(n),
        }
    }

    /// The code of weight 0 where all groups have the same.
    pub fn middle(&self) -> u8 {
        1 << (self.bits - 1)
    }

    /// The largest code.
    pub fn highest(&self) -> u8 {
        (0xff_u32 >> (8 - self.bits)) as u8
    }
}
