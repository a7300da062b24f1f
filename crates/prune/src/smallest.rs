//! The smallest of values that come in parts and are too many to hold: which value bounds them, found by counting.

use rayon::prelude::*;

/// Values that share their first 16 bits.
const BINS: usize = 1 << 16;

/// Two passes over values that are not negative: the first counts them by the first 16 bits of their f32 pattern, which orders them,
/// the second counts by the others those that share the 16 bits of the one sought.
pub struct Threshold {
    /// How many are to be the smallest ones.
    sought: u64,
    /// The first 16 bits, once known, and how many values lie below all that have them.
    upper: Option<(u32, u64)>,
    counts: Vec<u64>,
}

/// Where the smallest ones end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    /// The largest of them.
    pub value: f32,
    /// How many of the values equal to it are among them.
    pub equals: u64,
}

impl Threshold {
    /// For the `sought` smallest values, at least one.
    pub fn new(sought: u64) -> Self {
        Self { sought, upper: None, counts: vec![0; BINS] }
    }

    /// Adds values of this pass, all at least 0.
    pub fn add(&mut self, values: &[f32]) {
        let upper = self.upper.map(|(upper, _)| upper);
        let bin = |value: &f32| {
            // −0.0 is 0
            let bits = value.to_bits() & (u32::MAX >> 1);
            match upper {
                None => Some((bits >> 16) as usize),
                Some(upper) => (bits >> 16 == upper).then_some((bits & 0xffff) as usize),
            }
        };
        let count = |part: &[f32]| {
            let mut counts = vec![0u64; BINS];
            part.iter().filter_map(bin).for_each(|bin| counts[bin] += 1);
            counts
        };
        for counts in values.par_chunks(1 << 20).map(count).collect::<Vec<_>>() {
            self.counts.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
    }

    /// Ends a pass: after the first nothing yet, after the second the bound. `None` also where there are fewer values.
    pub fn turn(&mut self) -> Option<Bound> {
        let mut below = self.upper.map_or(0, |(_, below)| below);
        let at = self.counts.iter().position(|count| {
            let found = below + count >= self.sought;
            if !found {
                below += count;
            }
            found
        })? as u32;
        match self.upper {
            None => {
                self.upper = Some((at, below));
                self.counts.fill(0);
                None
            }
            Some((upper, _)) => {
                Some(Bound { value: f32::from_bits(upper << 16 | at), equals: self.sought - below })
            }
        }
    }
}

impl Bound {
    /// How many of some values are among the smallest ones; takes its share of the equal ones away from what is left of them.
    pub fn take(&mut self, values: &[f32]) -> u64 {
        let count = |is: fn(f32, f32) -> bool| {
            values.par_iter().filter(|value| is(**value, self.value)).count() as u64
        };
        let (below, equal) = (count(|v, bound| v < bound), count(|v, bound| v == bound));
        let taken = equal.min(self.equals);
        self.equals -= taken;
        below + taken
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_bound_is_that_of_sorting(
            values in prop::collection::vec(prop_oneof![0.0f32..1e-3, Just(0.5f32), Just(-0.0f32), 0.0f32..9.0], 1..400),
            part in 0.0f64..1.0,
        ) {
            let sought = 1 + (part * (values.len() - 1) as f64) as u64;
            let mut threshold = Threshold::new(sought);
            values.chunks(7).for_each(|part| threshold.add(part));
            prop_assert_eq!(threshold.turn(), None);
            values.chunks(11).for_each(|part| threshold.add(part));
            let mut bound = threshold.turn().unwrap();
            let mut sorted = values.clone();
            sorted.sort_by(f32::total_cmp);
            prop_assert_eq!(bound.value, sorted[sought as usize - 1]);
            let taken: u64 = values.chunks(13).map(|part| bound.take(part)).sum();
            prop_assert_eq!(taken, sought);
            prop_assert_eq!(bound.equals, 0);
        }
    }
}
