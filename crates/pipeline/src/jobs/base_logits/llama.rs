//! llama-perplexity's file.

use slmc_eval::LlamaLogits;

use super::Measured;

/// Checks that a file is of the windows that are to be measured.
///
/// # Errors
/// Says what it is of, and what to do.
pub(super) fn check(file: &LlamaLogits, measured: &Measured<'_>) -> Result<(), String> {
    let n_ctx = file.n_ctx();
    measured.check_windows(n_ctx, file.windows())?;
    let (theirs, ours) = (file.vocab_size(), measured.reader.rows);
    if theirs != ours {
        let model = measured.model.path();
        let model = model.display();
        return Err(format!("is of a model with a vocabulary of {theirs}; that of `{model}` has {ours}"));
    }
    let text = &measured.tokenized.tokens;
    if file.tokens().len() > text.len() {
        let (windows, tokens) = (file.windows(), text.len());
        return Err(format!(
            "is of another text: {windows} windows of {n_ctx} tokens, and this one has {tokens} tokens; give the --text that it was \
             written with"
        ));
    }
    // Of a window's first token it does not matter what it is where both models read BOS in its place.
    let unread = usize::from(measured.tokenized.bos.is_some());
    let differs = |at: &usize| at % n_ctx >= unread && file.tokens()[*at] != text[*at];
    match (0..file.tokens().len()).find(differs) {
        Some(at) => Err(format!(
            "is of another text, or of a model with another tokenizer: token {at} is {} in it and {} here; give the --text that it \
             was written with",
            file.tokens()[at],
            text[at]
        )),
        None => Ok(()),
    }
}
