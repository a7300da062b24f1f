//! Sequences that run through a model together, and the order they come in.

use fastrand::Rng;
use slmc_model::ops::Documents;

use crate::sequence::Sequence;

/// Some sequences of one length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Token ids, `[sequences, seq_len]`.
    pub tokens: Vec<u32>,
    /// What each position shall predict; `None` where there is nothing to predict.
    pub labels: Vec<Option<u32>>,
    /// Tokens of a sequence.
    pub seq_len: usize,
    /// The borders that attention keeps; `None` where every sequence is one document.
    pub documents: Option<Documents>,
}

impl Batch {
    /// Sequences side by side.
    ///
    /// # Panics
    /// If they are not of one length.
    pub fn new<'a>(sequences: impl IntoIterator<Item = &'a Sequence>) -> Self {
        let (mut tokens, mut labels, mut begins, mut seq_len) = (Vec::new(), Vec::new(), Vec::new(), None);
        for sequence in sequences {
            let length = sequence.tokens.len();
            assert_eq!(*seq_len.get_or_insert(length), length, "sequences of one length");
            tokens.extend(&sequence.tokens);
            labels.extend(&sequence.labels);
            begins.push(sequence.documents.as_slice());
        }
        let seq_len = seq_len.unwrap_or_default();
        Self { tokens, labels, seq_len, documents: Documents::new(begins, seq_len) }
    }

    /// Positions with something to predict.
    pub fn predictions(&self) -> usize {
        self.labels.iter().flatten().count()
    }
}

/// The order in which sequences are trained on: every one once, shuffled, then all again in another order. A function of the seed
/// and the position alone, so that nothing needs to be kept to go on in the middle.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// Number of sequences.
    pub sequences: usize,
    /// Decides the order.
    pub seed: u64,
}

impl Order {
    /// The sequences at positions `first` to `first + count − 1`.
    pub fn take(&self, first: u64, count: usize) -> Vec<usize> {
        let (mut chosen, mut epoch, mut order) = (Vec::with_capacity(count), u64::MAX, Vec::new());
        for position in first..first + count as u64 {
            let (now, index) = (position / self.sequences as u64, position % self.sequences as u64);
            if now != epoch {
                epoch = now;
                order = (0..self.sequences).collect();
                // Mixed, for seeds and epochs are small numbers that lie close together.
                let mixed = self.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(epoch);
                Rng::with_seed(mixed).shuffle(&mut order);
            }
            chosen.push(order[index as usize]);
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_the_tokens_that_follow() {
        let batch = Batch::new(&[vec![1, 2, 3].into(), vec![4, 5, 6].into()]);
        assert_eq!(batch.tokens, [1, 2, 3, 4, 5, 6]);
        assert_eq!(batch.labels, [Some(2), Some(3), None, Some(5), Some(6), None]);
        assert_eq!((batch.seq_len, batch.predictions(), batch.documents), (3, 4, None));
    }

    #[test]
    fn every_epoch_has_every_sequence_once_in_another_order() {
        let order = Order { sequences: 20, seed: 3 };
        let all = order.take(0, 60);
        for epoch in all.chunks(20) {
            let mut sorted = epoch.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..20).collect::<Vec<_>>());
        }
        assert!(all[..20] != all[20..40] && all[20..40] != all[40..]);
        assert_ne!(all[..20], Order { sequences: 20, seed: 4 }.take(0, 20));
        for first in 0..60 {
            let some = order.take(first as u64, (60 - first).min(7));
            assert_eq!(some, all[first..][..some.len()], "from {first}");
        }
    }
}
