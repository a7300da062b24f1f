//! The most probable tokens, from logits that arrive a slice of the vocabulary at a time.

/// The `K` largest logits seen and whose they are, the largest first; of equal ones those seen first come first, and stay.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leaders<const K: usize> {
    logits: [f32; K],
    entries: [usize; K],
}

impl<const K: usize> Leaders<K> {
    /// Before any logit was seen.
    pub const EMPTY: Self = Self { logits: [f32::NEG_INFINITY; K], entries: [usize::MAX; K] };

    /// Takes notice of a slice of finite logits whose largest is `max`.
    pub fn meet(&mut self, logits: &[f32], max: f32, first_entry: usize) {
        // Chunks that nothing leads are dismissed by a comparison that vectorizes; after the first slice they are nearly all.
        const CHUNK: usize = 64;
        if max <= self.logits[K - 1] {
            return;
        }
        for (chunk, xs) in logits.chunks(CHUNK).enumerate() {
            let least = self.logits[K - 1];
            if !xs.iter().fold(false, |found, &x| found | (x > least)) {
                continue;
            }
            for (at, &x) in xs.iter().enumerate() {
                if x > self.logits[K - 1] {
                    self.insert(x, first_entry + chunk * CHUNK + at);
                }
            }
        }
    }

    /// Puts a logit above the last one behind those that are not below it.
    fn insert(&mut self, logit: f32, entry: usize) {
        let at = self.logits.partition_point(|&held| held >= logit);
        self.logits[at..].rotate_right(1);
        self.entries[at..].rotate_right(1);
        (self.logits[at], self.entries[at]) = (logit, entry);
    }

    /// The entry of the largest logit.
    pub fn top(&self) -> usize {
        self.entries[0]
    }

    /// Whether an entry that was seen is among them.
    pub fn contains(&self, entry: usize) -> bool {
        self.entries.contains(&entry)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// By sorting everything: few distinct values, so that many are equal.
        #[test]
        fn leaders_of_slices_are_those_of_the_whole(
            logits in proptest::collection::vec((-6_i8..6).prop_map(f32::from), 1..400),
            width in 1_usize..200,
        ) {
            let mut leaders = Leaders::<5>::EMPTY;
            for (slice, xs) in logits.chunks(width).enumerate() {
                let max = xs.iter().copied().fold(f32::MIN, f32::max);
                leaders.meet(xs, max, slice * width);
            }
            let mut order: Vec<usize> = (0..logits.len()).collect();
            order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
            let expected: Vec<usize> = order.iter().copied().take(5).collect();
            prop_assert_eq!(&leaders.entries[..expected.len()], &expected[..]);
            prop_assert_eq!(leaders.top(), order[0]);
            for (rank, &entry) in order.iter().enumerate() {
                prop_assert_eq!(leaders.contains(entry), rank < 5);
            }
        }
    }
}
