//! Sequences as they are trained on, and how documents are packed into them.

use std::collections::BTreeMap;

/// The tokens of one document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// Whether each token is to be predicted from those before it; `None` for all.
    pub learned: Option<Vec<bool>>,
}

/// A sequence of some documents, each by itself: no token is predicted from, or attends to, another document's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// The token that each position shall predict; `None` where there is nothing to predict.
    pub labels: Vec<Option<u32>>,
    /// The ascending positions at which documents begin, 0 among them.
    pub documents: Vec<usize>,
}

impl From<Vec<u32>> for Sequence {
    /// One document, every token of which is to be predicted.
    fn from(tokens: Vec<u32>) -> Self {
        let mut sequence = Self { tokens: Vec::new(), labels: Vec::new(), documents: Vec::new() };
        sequence.push(&Document { tokens, learned: None });
        sequence
    }
}

impl Sequence {
    /// One document, filled up to `seq_len` tokens.
    pub(crate) fn alone(document: &Document, seq_len: usize) -> Self {
        let mut sequence = Self { tokens: Vec::new(), labels: Vec::new(), documents: Vec::new() };
        sequence.push(document);
        sequence.fill(seq_len);
        sequence
    }

    /// Adds a document.
    fn push(&mut self, document: &Document) {
        let Document { tokens, learned } = document;
        if tokens.is_empty() {
            return;
        }
        self.documents.push(self.tokens.len());
        self.tokens.extend(tokens);
        let is_learned = |n: usize| learned.as_ref().is_none_or(|learned| learned[n]);
        self.labels.extend((1..tokens.len()).map(|n| is_learned(n).then_some(tokens[n])));
        self.labels.push(None);
    }

    /// Positions with something to predict.
    pub fn predictions(&self) -> usize {
        self.labels.iter().flatten().count()
    }

    /// Packs documents into sequences of `seq_len` tokens by best fit, the longest first (Ding et al. 2024, arXiv:2404.10830,
    /// section 3): no document is divided that fits into a sequence, and longer ones are divided as few times as can be. Every part
    /// of a document begins with `bos`, if that is given, and counts as a document of its own. What stays free is filled with token 0,
    /// which predicts nothing and which nothing attends to. Parts in which nothing is to be predicted are left out.
    ///
    /// # Panics
    /// If `seq_len` does not hold a token beside `bos`.
    pub fn pack(documents: &[Document], seq_len: usize, bos: Option<u32>) -> Vec<Self> {
        let room = seq_len.checked_sub(bos.iter().len()).filter(|&room| room > 0).expect("room for a token");
        let mut parts: Vec<Document> = documents
            .iter()
            .flat_map(|document| document.parts(room, bos))
            .filter(Document::teaches)
            .collect();
        parts.sort_by_key(|part| std::cmp::Reverse(part.tokens.len()));
        let mut sequences: Vec<Self> = Vec::new();
        // Sequences by the room they have left; the oldest of those with the least that suffices is taken.
        let mut open: BTreeMap<usize, std::collections::VecDeque<usize>> = BTreeMap::new();
        for part in &parts {
            let length = part.tokens.len();
            let found = open.range_mut(length..).next().map(|(&left, queue)| (left, queue.pop_front()));
            let (left, n) = match found {
                Some((left, Some(n))) => {
                    if open.get(&left).is_some_and(|queue| queue.is_empty()) {
                        open.remove(&left);
                    }
                    (left, n)
                }
                _ => {
                    sequences.push(Self { tokens: Vec::new(), labels: Vec::new(), documents: Vec::new() });
                    (seq_len, sequences.len() - 1)
                }
            };
            sequences[n].push(part);
            if left > length {
                open.entry(left - length).or_default().push_back(n);
            }
        }
        sequences.iter_mut().for_each(|sequence| sequence.fill(seq_len));
        sequences
    }

    /// Fills up to `seq_len` tokens.
    fn fill(&mut self, seq_len: usize) {
        if self.tokens.len() < seq_len {
            self.documents.push(self.tokens.len());
            self.tokens.resize(seq_len, 0);
            self.labels.resize(seq_len, None);
        }
    }
}

impl Document {
    /// Parts of at most `room` tokens, each behind `bos`.
    fn parts(&self, room: usize, bos: Option<u32>) -> impl Iterator<Item = Self> {
        self.tokens.chunks(room).enumerate().map(move |(n, tokens)| Self {
            tokens: bos.into_iter().chain(tokens.iter().copied()).collect(),
            learned: self.learned.as_ref().map(|learned| {
                let learned = &learned[n * room..][..tokens.len()];
                bos.iter().map(|_| false).chain(learned.iter().copied()).collect()
            }),
        })
    }

    /// Whether a token is to be predicted from another.
    fn teaches(&self) -> bool {
        match &self.learned {
            Some(learned) => learned.iter().skip(1).any(|&learned| learned),
            None => self.tokens.len() > 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn labels_end_with_their_document() {
        let documents = [
            Document { tokens: vec![1, 2, 3], learned: None },
            Document { tokens: vec![4, 5], learned: Some(vec![false, true]) },
            Document { tokens: vec![6, 7], learned: Some(vec![true, false]) },
        ];
        let packed = Sequence::pack(&documents, 6, None);
        let expected = Sequence {
            tokens: vec![1, 2, 3, 4, 5, 0],
            labels: vec![Some(2), Some(3), None, Some(5), None, None],
            documents: vec![0, 3, 5],
        };
        assert_eq!(packed, [expected], "the third document has nothing to predict but its first token");
        assert_eq!(packed[0].predictions(), 3);
    }

    #[test]
    fn a_long_document_becomes_the_windows_of_its_text() {
        let document = Document { tokens: (1..=10).collect(), learned: None };
        let tokens = |bos| {
            let packed = Sequence::pack(std::slice::from_ref(&document), 4, bos);
            packed.into_iter().map(|sequence| sequence.tokens).collect::<Vec<_>>()
        };
        assert_eq!(tokens(None), [vec![1, 2, 3, 4], vec![5, 6, 7, 8], vec![9, 10, 0, 0]]);
        assert_eq!(tokens(Some(99)), [[99, 1, 2, 3], [99, 4, 5, 6], [99, 7, 8, 9], [99, 10, 0, 0]]);
    }

    proptest! {
        /// Every document that fits is in one sequence whole, and every token that is to be predicted is predicted once.
        #[test]
        fn nothing_is_lost(lengths in prop::collection::vec(0usize..40, 1..60), seq_len in 2usize..30, bos in prop::option::of(Just(7))) {
            let documents: Vec<Document> = lengths.iter().enumerate().map(|(n, &length)| Document {
                tokens: (0..length).map(|i| (100 * n + i) as u32 + 100).collect(),
                learned: None,
            }).collect();
            let packed = Sequence::pack(&documents, seq_len, bos);
            let room = seq_len - bos.iter().len();
            let mut found: Vec<Vec<u32>> = Vec::new();
            let mut predicted = 0;
            for sequence in &packed {
                prop_assert_eq!((sequence.tokens.len(), sequence.labels.len()), (seq_len, seq_len));
                let ends = sequence.documents.iter().skip(1).copied().chain([seq_len]);
                for (&begin, end) in sequence.documents.iter().zip(ends) {
                    let labels = &sequence.labels[begin..end];
                    if labels.iter().all(Option::is_none) {
                        prop_assert_eq!(end, seq_len, "only the filling predicts nothing");
                        continue;
                    }
                    let expected: Vec<_> = sequence.tokens[begin + 1..end].iter().map(|&t| Some(t)).chain([None]).collect();
                    prop_assert_eq!(labels, &expected[..]);
                    let document = &sequence.tokens[begin..end];
                    prop_assert!(bos.is_none() || document[0] == 7);
                    found.push(document[bos.iter().len()..].to_vec());
                }
                predicted += sequence.predictions();
            }
            let mut expected: Vec<Vec<u32>> = documents.iter().flat_map(|d| d.tokens.chunks(room).map(<[u32]>::to_vec))
                .filter(|part| part.len() + bos.iter().len() > 1).collect();
            prop_assert_eq!(predicted, expected.iter().map(|part| part.len() + bos.iter().len() - 1).sum::<usize>());
            found.sort();
            expected.sort();
            prop_assert_eq!(found, expected);
            // Best fit: no two sequences are both at most half full.
            let half_empty = packed.iter().filter(|s| {
                let used = if s.tokens.ends_with(&[0]) { *s.documents.last().unwrap() } else { seq_len };
                2 * used <= seq_len
            });
            prop_assert!(half_empty.count() <= 1);
        }
    }
}
