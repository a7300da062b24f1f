//! A base model's predictions from a file, in the place of the model: one of `slmc distill cache-logits --for-eval`, or one of
//! `llama-perplexity --kl-divergence-base`. Its first bytes say which.

mod cached;
mod llama;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use slmc_distill::LogitCache;
use slmc_eval::{BasePredictions, LlamaLogits};

use self::cached::Cached;
use super::evaluate::Measure;
use super::tokenized::{Reader, Tokenized};
use crate::PipelineError;
use crate::model_file::ModelFile;

/// A file of predictions of the windows that are to be measured.
pub(super) enum BaseLogits {
    Cached(Cached),
    Llama(LlamaLogits),
}

/// What a file's predictions are to be of.
struct Measured<'a> {
    model: &'a ModelFile,
    reader: &'a Reader<'a>,
    tokenized: &'a Tokenized,
    measure: &'a Measure,
}

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
        let refuse = |reason: String| PipelineError::BaseLogits { path: path.to_owned(), reason };
        let mut begin = Vec::new();
        File::open(path)
            .and_then(|file| file.take(LlamaLogits::MAGIC.len() as u64).read_to_end(&mut begin))
            .map_err(|error| refuse(format!("cannot be read: {error}")))?;
        let measured = Measured { model, reader, tokenized, measure };
        if begin == LlamaLogits::MAGIC {
            let file = LlamaLogits::open(path)?;
            llama::check(&file, &measured).map_err(refuse)?;
            return Ok(Self::Llama(file));
        }
        if begin.is_empty() || !LogitCache::MAGIC.as_bytes().starts_with(&begin) {
            return Err(refuse(
                "holds no model's predictions, as `slmc distill cache-logits --for-eval` or `llama-perplexity --kl-divergence-base` \
                 write them"
                    .into(),
            ));
        }
        let cache = LogitCache::open(path)?;
        cached::check(cache.header(), &measured).map_err(refuse)?;
        Ok(Self::Cached(Cached(cache)))
    }

    /// The predictions.
    pub fn predictions(&self) -> BasePredictions<'_> {
        match self {
            Self::Cached(cached) => BasePredictions::TopK(cached),
            Self::Llama(file) => BasePredictions::Llama(file),
        }
    }

    /// The windows that it has, the text's first.
    pub fn windows(&self) -> usize {
        match self {
            Self::Cached(Cached(cache)) => cache.header().sequences,
            Self::Llama(file) => file.windows(),
        }
    }

    /// The model, as whoever wrote the file named it; the file itself where it names none.
    pub fn base(&self) -> PathBuf {
        match self {
            Self::Cached(Cached(cache)) => cache.header().teacher.as_str().into(),
            Self::Llama(file) => file.path().into(),
        }
    }
}

impl Measured<'_> {
    /// Checks that what is measured are some of a file's `windows` windows of `n_ctx` tokens.
    ///
    /// # Errors
    /// Says what the file has, and what to do.
    fn check_windows(&self, n_ctx: usize, windows: usize) -> Result<(), String> {
        let measure = self.measure;
        if measure.stride.is_some() {
            return Err("is of windows side by side; leave out --stride".into());
        }
        if n_ctx != measure.n_ctx {
            let wanted = measure.n_ctx;
            return Err(format!("is of windows of {n_ctx} tokens, not {wanted}; give --n-ctx {n_ctx}"));
        }
        match measure.max_windows.filter(|&wanted| wanted > windows) {
            Some(wanted) => Err(format!(
                "has {windows} windows, not {wanted}; give --windows {windows}, or leave that out"
            )),
            None => Ok(()),
        }
    }
}
