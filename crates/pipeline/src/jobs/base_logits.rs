//! A base model's predictions from a file, in the place of the model.

use std::error::Error;
use std::ops::Range;
use std::path::Path;

use slmc_distill::{LogitCache, Records};
use slmc_eval::{BasePredictions, KeptBase, KeptPredictions};

use super::distill::tokenizer_hash;
use super::evaluate::{Measure, sha256};
use super::tokenized::{Reader, Tokenized};
use crate::PipelineError;
use crate::model_file::ModelFile;

/// A file that `slmc distill cache-logits --for-eval` wrote.
pub(super) struct BaseLogits(LogitCache);

impl BaseLogits {
    /// Opens a file, and refuses one of anything but the windows that are to be measured as `model` reads them.
    ///
    /// # Errors
    /// See the messages.
    pub fn open(
        path: &Path,
        model: &ModelFile,
        reader: &Reader<'_>,
        tokenized: &Tokenized,
        measure: &Measure,
    ) -> Result<Self, PipelineError> {
        let cache = LogitCache::open(path)?;
        let header = cache.header();
        let refuse = |reason: String| Err(PipelineError::BaseLogits { path: path.to_owned(), reason });
        if header.records != Records::Windows {
            return refuse(
                "holds predictions for a training run, not for windows of text; write one with `slmc distill cache-logits --for-eval`".into(),
            );
        }
        if header.temperature != 1.0 {
            return refuse(format!("holds predictions at temperature {}, not 1", header.temperature));
        }
        if header.tokenizer_sha256 != tokenizer_hash(&reader.tokenizer) {
            return refuse(format!("is of a model with another tokenizer than `{}`", model.path().display()));
        }
        if measure.stride.is_some() {
            return refuse("is of windows side by side; leave out --stride".into());
        }
        if header.seq_len != measure.n_ctx {
            let cached = header.seq_len;
            return refuse(format!(
                "is of windows of {cached} tokens, not {}; give --n-ctx {cached}",
                measure.n_ctx
            ));
        }
        if header.data_sha256 != sha256(&tokenized.tokens) {
            return refuse("is of another text; give the --text that it was written with".into());
        }
        if let Some(wanted) = measure.max_windows.filter(|&wanted| wanted > header.sequences) {
            let cached = header.sequences;
            return refuse(format!(
                "has {cached} windows, not {wanted}; give --windows {cached}, or leave that out"
            ));
        }
        Ok(Self(cache))
    }

    /// The windows that it has, the text's first.
    pub fn windows(&self) -> usize {
        self.0.header().sequences
    }

    /// The model, as whoever wrote the file named it.
    pub fn base(&self) -> &str {
        &self.0.header().teacher
    }
}

impl BasePredictions for BaseLogits {
    fn about(&self) -> KeptBase {
        let header = self.0.header();
        let (top_k, vocab_size) = (header.k, header.vocab);
        KeptBase { top_k, vocab_size, kl_is_lower_bound: top_k < vocab_size }
    }

    fn read(&self, windows: Range<usize>) -> Result<KeptPredictions, Box<dyn Error + Send + Sync>> {
        let rows = self.0.read(&windows.collect::<Vec<_>>())?;
        let mut kept = KeptPredictions { k: self.0.header().k, ..KeptPredictions::default() };
        for token in (0..rows.positions()).map(|position| rows.token(position)) {
            kept.ids.extend(token.ids);
            kept.log_probs.extend(token.log_probs);
            kept.log_rest.push(token.log_rest);
        }
        kept.log_target.extend(rows.log_labels());
        Ok(kept)
    }
}
