//! The text to measure on as a model reads it, and whether two models read it alike.

use slmc_calibration::{MeasuredText, Tokenizer};
use slmc_eval::TextSpans;

use crate::PipelineError;
use crate::model_file::ModelFile;

/// A model with its tokenizer.
pub(super) struct Reader<'a> {
    model: &'a ModelFile,
    pub tokenizer: Tokenizer,
    /// Rows of its embedding and its head.
    pub rows: usize,
}

/// A text's token ids.
#[derive(PartialEq, Eq)]
pub(super) struct Tokenized {
    /// BOS, if the tokenizer adds it, and the text.
    pub tokens: Vec<u32>,
    /// The token that the model expects in front.
    pub bos: Option<u32>,
    /// Where the tokens stand in the text.
    pub spans: TextSpans,
}

impl<'a> Reader<'a> {
    /// # Errors
    /// No tokenizer, a broken one, or another model's.
    pub fn new(model: &'a ModelFile, rows: usize) -> Result<Self, PipelineError> {
        let tokenizer = model.tokenizer(rows)?;
        tokenizer.check_vocab_size(rows)?;
        Ok(Self { model, tokenizer, rows })
    }

    /// As llama-perplexity, which lets its tokenizer add BOS to the whole text and again to every window.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn tokenize(&self, text: &MeasuredText) -> Result<Tokenized, PipelineError> {
        let (ids, ends) = self.tokenizer.encode_text_with_ends(&text.text)?;
        let bos = self.tokenizer.bos();
        let in_front = bos.map(|_| 0);
        Ok(Tokenized {
            tokens: bos.into_iter().chain(ids).collect(),
            bos,
            spans: TextSpans::new(in_front.into_iter().chain(ends).collect(), text.documents.clone()),
        })
    }

    /// Checks that a base model reads the text as this one does, and tells the rows of both heads that mean the same tokens where
    /// one has more than the other: see [`slmc_eval::Options::shared_vocabulary`].
    ///
    /// # Errors
    /// It does not; rows that only one has stand for tokens; rows that both have stand for different ones.
    pub fn compare(
        &self,
        base: &Self,
        text: &MeasuredText,
        tokenized: &Tokenized,
    ) -> Result<Option<usize>, PipelineError> {
        let (model_path, base_path) = (self.model.path(), base.model.path());
        let read = base.tokenize(text)?;
        if (&read.tokens, read.bos) != (&tokenized.tokens, tokenized.bos) {
            return Err(PipelineError::TokenizersDiffer { model: model_path, base: base_path });
        }
        if self.rows == base.rows {
            return Ok(None);
        }
        self.compare_tokens(base)?;
        Ok(Some(self.rows.min(base.rows)))
    }

    /// Checks that a token's number means the same in a base model, and that both have a row for every token.
    ///
    /// # Errors
    /// It does not.
    pub fn compare_tokens(&self, base: &Self) -> Result<(), PipelineError> {
        let shared = self.rows.min(base.rows);
        let (ours, theirs) = (self.tokenizer.vocabulary(), base.tokenizer.vocabulary());
        let token =
            |of: Option<&String>| of.map_or_else(|| "nothing".to_owned(), |token| format!("{token:?}"));
        let different = ours.keys().chain(theirs.keys()).find(|id| ours.get(id) != theirs.get(id));
        match different.or_else(|| ours.keys().find(|&&id| id as usize >= shared)) {
            Some(id) => Err(PipelineError::VocabulariesDiffer {
                found: token(ours.get(id)),
                expected: token(theirs.get(id)),
                id: *id,
                model: self.model.path(),
                base: base.model.path(),
            }),
            None => Ok(()),
        }
    }
}
