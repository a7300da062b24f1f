//! Where the tokens of a text stand in it.

use std::ops::Range;

/// A text as its tokens cover it, and what it is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextSpans {
    ends: Vec<usize>,
    documents: Vec<Range<usize>>,
}

impl TextSpans {
    /// `ends[i]` is how many bytes of the text, as UTF-8, the tokens up to and with token `i` stand for (a token that stands for
    /// none, such as BOS, ends where the one before does); `documents` are ranges of bytes, in their order.
    ///
    /// # Panics
    /// If ends or documents go backwards.
    pub fn new(ends: Vec<usize>, documents: Vec<Range<usize>>) -> Self {
        assert!(ends.is_sorted(), "tokens follow each other");
        assert!(documents.is_sorted_by_key(|document| document.start), "documents follow each other");
        Self { ends, documents }
    }

    /// Bytes that these tokens stand for.
    ///
    /// # Panics
    /// If there are no such tokens.
    pub fn bytes(&self, tokens: Range<usize>) -> usize {
        self.up_to(tokens.end) - self.up_to(tokens.start)
    }

    /// The bytes of the text that these tokens stand for.
    ///
    /// # Panics
    /// If there are no such tokens.
    pub fn range(&self, tokens: Range<usize>) -> Range<usize> {
        self.up_to(tokens.start)..self.up_to(tokens.end)
    }

    /// Bytes of the first `tokens` tokens.
    fn up_to(&self, tokens: usize) -> usize {
        tokens.checked_sub(1).map_or(0, |last| self.ends[last])
    }

    /// Number of documents.
    pub fn documents(&self) -> usize {
        self.documents.len()
    }

    /// The document that a token belongs to: the last that begins before the token's end, so that what stands between two
    /// documents belongs to the first of them. `None` if there are no documents.
    ///
    /// # Panics
    /// If there is no such token.
    pub fn document_of(&self, token: usize) -> Option<usize> {
        let end = self.up_to(token + 1);
        let begun = self.documents.partition_point(|document| document.start < end);
        (!self.documents.is_empty()).then(|| begun.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_has_its_bytes_and_its_document() {
        // BOS, "abc", " d", "\n\n" between, "ef", and a character of which one token has all bytes and the next none
        let text = TextSpans::new(vec![0, 3, 5, 7, 9, 12, 12], vec![0..5, 7..12]);
        assert_eq!((text.bytes(0..7), text.bytes(0..1), text.bytes(2..4), text.bytes(6..7)), (12, 0, 4, 0));
        assert_eq!(text.range(1..3), 0..5);
        let documents: Vec<_> = (0..7).map(|token| text.document_of(token).unwrap()).collect();
        assert_eq!(documents, [0, 0, 0, 0, 1, 1, 1]);
        assert_eq!(TextSpans::new(vec![1], vec![]).document_of(0), None);
    }
}
