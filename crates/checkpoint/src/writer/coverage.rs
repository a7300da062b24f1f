//! Which bytes of a tensor have been written.

use std::collections::BTreeMap;
use std::ops::Range;

/// A set of byte ranges, kept disjoint and merged.
#[derive(Clone, Debug, Default)]
pub(super) struct Coverage {
    /// End by start.
    ranges: BTreeMap<u64, u64>,
}

impl Coverage {
    /// Adds a range; false, and nothing added, if any of it was there before.
    pub fn add(&mut self, range: Range<u64>) -> bool {
        if range.is_empty() {
            return true;
        }
        let before = self.ranges.range(..range.end).next_back().map(|(&start, &end)| (start, end));
        if before.is_some_and(|(_, end)| end > range.start) {
            return false;
        }
        let end = self.ranges.remove(&range.end).unwrap_or(range.end);
        match before {
            Some((start, before_end)) if before_end == range.start => self.ranges.insert(start, end),
            _ => self.ranges.insert(range.start, end),
        };
        true
    }

    /// Number of bytes written.
    pub fn bytes(&self) -> u64 {
        self.ranges.iter().map(|(start, end)| end - start).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Agrees with one flag per byte.
        #[test]
        fn agrees_with_flags(ranges in prop::collection::vec((0u64..60, 0u64..12), 0..40)) {
            let (mut coverage, mut flags) = (Coverage::default(), [false; 80]);
            for (start, len) in ranges {
                let bytes = start as usize..(start + len) as usize;
                let free = flags[bytes.clone()].iter().all(|flag| !flag);
                prop_assert_eq!(coverage.add(start..start + len), free);
                if free {
                    flags[bytes].fill(true);
                }
                prop_assert_eq!(coverage.bytes(), flags.iter().filter(|flag| **flag).count() as u64);
            }
        }
    }
}
