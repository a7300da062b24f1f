//! Losses of parts of the text: by length of context, and by document.

use slmc_eval::{Evaluation, Figures};
use slmc_report::{Metric, Rows, Scope};

/// Adds the model's figures of every part.
pub(super) fn add(rows: &mut Rows, evaluation: &Evaluation) {
    let mut part = |scope, item: usize, figures: &Figures| {
        let nll = figures.nll;
        rows.add(scope, Metric::Tokens).item(item).value(figures.tokens as f64);
        let perplexity = nll.mean.exp();
        rows.add(scope, Metric::Perplexity).item(item).value(perplexity).stderr(perplexity * nll.stderr);
        if let Some(kl) = figures.kl_divergence {
            rows.add(scope, Metric::KlDivergence).item(item).value(kl.mean).stderr(kl.stderr);
        }
    };
    for position in &evaluation.positions {
        part(Scope::Position, position.context_from, &position.figures);
    }
    for document in &evaluation.documents {
        part(Scope::Document, document.document, &document.figures);
    }
    for document in &evaluation.documents {
        if let Some(bits) = document.bits_per_byte {
            rows.add(Scope::Document, Metric::BitsPerByte).item(document.document).value(bits);
        }
    }
}

/// Adds the base's perplexity of every part.
pub(super) fn add_base(rows: &mut Rows, evaluation: &Evaluation) {
    let positions =
        evaluation.positions.iter().map(|part| (Scope::Position, part.context_from, &part.figures));
    let documents = evaluation.documents.iter().map(|part| (Scope::Document, part.document, &part.figures));
    for (scope, item, figures) in positions.chain(documents) {
        let Some(nll) = figures.base_nll else { continue };
        let perplexity = nll.mean.exp();
        rows.add(scope, Metric::Perplexity).item(item).value(perplexity).stderr(perplexity * nll.stderr);
    }
}
