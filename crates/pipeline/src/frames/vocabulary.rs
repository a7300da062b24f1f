//! A model without tokens that a text never uses, as measurements.

use slmc_report::{Metric, Report, Scope};

use super::{Run, about, evaluation, sizes};
use crate::PipelineError;
use crate::jobs::vocabulary::VocabularyOutcome;

/// What the number of tokens is told under.
const TOKENS: &str = "vocabulary";

/// The report of `slmc prune --vocab`. Perplexities of different vocabularies do not compare; bits per byte do.
///
/// # Errors
/// A model that cannot be read any more.
pub fn report(outcome: &VocabularyOutcome, run: &Run) -> Result<Report, PipelineError> {
    let (model, source) = (outcome.output.as_path(), outcome.source.as_path());
    let mut all = run.rows("prune", model, Some(source));
    let mut rows = about(model, Some(source));
    let method = format!("vocabulary: what a text of {} tokens uses", outcome.corpus_tokens);
    rows.add(Scope::Run, Metric::Method).text(method);
    rows.add(Scope::Run, Metric::PruneSeconds).value(outcome.seconds);
    all.extend(rows.finish());
    if let Some(measured) = &outcome.evaluation {
        all.extend(evaluation::settings(measured));
    }
    all.extend(sizes::rows(model, Some(source))?);
    for (of, base, tokens, measured) in [
        (model, Some(source), outcome.tokens, &outcome.evaluation),
        (source, None, outcome.tokens_before, &outcome.evaluation_before),
    ] {
        let mut rows = about(of, base);
        if let Some(bits) = measured.as_ref().and_then(|m| m.evaluation.summary.bits_per_byte) {
            rows.add(Scope::Summary, Metric::BitsPerByte).value(bits);
        }
        rows.add(Scope::Dimension, Metric::Extent).item(TOKENS).value(tokens as f64);
        all.extend(rows.finish());
    }
    Ok(Report::new(all))
}
