//! A file that `slmc distill cache-logits --for-eval` wrote.

use std::error::Error;
use std::ops::Range;

use slmc_distill::{CacheHeader, LogitCache, Records};
use slmc_eval::{KeptBase, KeptPredictions, TopKSource};

use super::super::distill::tokenizer_hash;
use super::super::evaluate::sha256;
use super::Measured;

/// Such a file.
pub(in crate::jobs) struct Cached(pub LogitCache);

/// Checks that a file is of the windows that are to be measured.
///
/// # Errors
/// Says what it is of, and what to do.
pub(super) fn check(header: &CacheHeader, measured: &Measured<'_>) -> Result<(), String> {
    if header.records != Records::Windows {
        return Err(
            "holds predictions for a training run, not for windows of text; write one with `slmc distill cache-logits --for-eval`".into(),
        );
    }
    if header.temperature != 1.0 {
        return Err(format!("holds predictions at temperature {}, not 1", header.temperature));
    }
    if header.tokenizer_sha256 != tokenizer_hash(&measured.reader.tokenizer) {
        let model = measured.model.path();
        return Err(format!("is of a model with another tokenizer than `{}`", model.display()));
    }
    measured.check_windows(header.seq_len, header.sequences)?;
    if header.data_sha256 != sha256(&measured.tokenized.tokens) {
        return Err("is of another text; give the --text that it was written with".into());
    }
    Ok(())
}

impl TopKSource for Cached {
    fn about(&self) -> KeptBase {
        let header = self.0.header();
        KeptBase::top_k(header.k, header.vocab)
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
