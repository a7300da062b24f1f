//! Documents packed into one sequence.

use std::sync::Arc;

use super::AttentionShape;

/// Where the documents of packed sequences begin: attention does not reach over their borders.
///
/// Positions are not counted anew in every document: the rotary embedding makes a score depend on the distance between two tokens
/// alone, so that a document's outputs are those it has by itself (to rounding).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Documents {
    /// For every token, the position in its sequence of the first one of its document: `[batch · seq]`.
    first: Arc<[u32]>,
}

impl Documents {
    /// Of each sequence of `seq` tokens the ascending positions at which its documents begin, 0 among them. `None` where every
    /// sequence is one document, which needs no borders.
    ///
    /// # Panics
    /// If positions do not ascend from 0 to less than `seq`.
    pub fn new<'a>(sequences: impl IntoIterator<Item = &'a [usize]>, seq: usize) -> Option<Self> {
        let (mut first, mut packed) = (Vec::new(), false);
        for begins in sequences {
            let ends = begins.iter().skip(1).copied().chain([seq]);
            assert!(begins.first() == Some(&0) && begins.iter().zip(ends.clone()).all(|(a, b)| *a < b));
            packed |= begins.len() > 1;
            first.extend(begins.iter().zip(ends).flat_map(|(&a, b)| std::iter::repeat_n(a as u32, b - a)));
        }
        packed.then(|| Self { first: first.into() })
    }

    /// Of a sequence's tokens the beginnings of their documents, `[seq]`.
    pub(super) fn of_sequence(&self, sequence: usize, seq: usize) -> &[u32] {
        &self.first[sequence * seq..][..seq]
    }

    /// Tokens of all sequences together.
    pub(super) fn tokens(&self) -> usize {
        self.first.len()
    }
}

/// Which keys the queries of one sequence see.
#[derive(Clone, Copy)]
pub(super) struct Sight<'a> {
    pub shape: AttentionShape,
    /// The beginnings of the documents that its tokens are in; `None` where it is one document.
    pub documents: Option<&'a [u32]>,
}

impl<'a> Sight<'a> {
    /// That of a sequence of a batch.
    pub fn of(shape: AttentionShape, documents: Option<&'a Documents>, sequence: usize) -> Self {
        Self { shape, documents: documents.map(|documents| documents.of_sequence(sequence, shape.seq)) }
    }

    /// The first key that the query at `position` sees; it never falls from one position to the next.
    pub fn first_key(&self, position: usize) -> usize {
        let in_window = self.shape.first_key(position);
        self.documents.map_or(in_window, |first| in_window.max(first[position] as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders_are_kept_where_there_are_some() {
        assert_eq!(Documents::new([&[0][..], &[0]], 4), None);
        let documents = Documents::new([&[0][..], &[0, 1, 3]], 4).unwrap();
        assert_eq!(
            (documents.of_sequence(0, 4), documents.of_sequence(1, 4)),
            (&[0; 4][..], &[0, 1, 1, 3][..])
        );
        let shape = AttentionShape { seq: 4, heads: 1, key_value_heads: 1, head_dim: 2, window: Some(2) };
        let sight = Sight::of(shape, Some(&documents), 1);
        assert_eq!([0, 1, 2, 3].map(|position| sight.first_key(position)), [0, 1, 1, 3]);
    }
}
