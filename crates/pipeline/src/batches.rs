//! Calibration text as the token batches of a model.

use slmc_calibration::{BatchOptions, Calibration, TextSource, TokenBatches};
use slmc_model::ModelConfig;

use crate::PipelineError;
use crate::model_file::ModelFile;
use crate::progress::Reporter;

/// Tokenizes the texts (the bundled corpus, if there are none) and chooses windows, no longer than the model's context and
/// with its BOS token first.
///
/// # Errors
/// The text or the tokenizer cannot be read; there is too little text for one window.
pub fn calibration_batches(
    model: &ModelFile,
    config: &ModelConfig,
    texts: &[TextSource],
    options: &BatchOptions,
) -> Result<TokenBatches, PipelineError> {
    let tokenizer = model.tokenizer(config.vocab_size)?;
    tokenizer.check_vocab_size(config.vocab_size)?;
    let template = model.chat_template(config.vocab_size)?;
    let bundled = [TextSource::default()];
    let mut documents = Vec::new();
    for text in if texts.is_empty() { &bundled[..] } else { texts } {
        documents.extend(text.to_calibrate(template.as_ref())?);
    }
    let mut options = options.clone();
    options.seq_len = options.seq_len.min(config.max_position_embeddings);
    options.bos = tokenizer.bos();
    Ok(Calibration::build(&documents, &tokenizer, &options)?)
}

/// Says so where the text gave fewer windows than were asked for.
pub fn warn_of_missing(batches: &TokenBatches, reporter: &dyn Reporter) {
    if batches.missing() > 0 {
        reporter.warn(&format!(
            "the calibration text has {} tokens, enough for {} samples of {}; {} were asked for",
            batches.text_tokens, batches.available, batches.seq_len, batches.requested,
        ));
    }
}
