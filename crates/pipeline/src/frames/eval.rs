//! What `slmc eval` measured, on text and on tasks.

use std::path::Path;

use slmc_report::Report;

use super::{Run, evaluation, sizes, tasks};
use crate::PipelineError;
use crate::jobs::evaluate::EvaluateOutcome;
use crate::jobs::tasks::TasksOutcome;

/// The report of `slmc eval`.
///
/// # Errors
/// A model that cannot be read any more.
pub fn report(
    model: &Path,
    base: Option<&Path>,
    measured: Option<&EvaluateOutcome>,
    answered: Option<&TasksOutcome>,
    run: &Run,
) -> Result<Report, PipelineError> {
    let mut rows = run.rows("eval", model, base);
    rows.extend(measured.into_iter().flat_map(evaluation::settings));
    rows.extend(sizes::rows(model, base)?);
    rows.extend(measured.into_iter().flat_map(evaluation::rows));
    rows.extend(answered.into_iter().flat_map(|answered| tasks::rows(model, base, answered)));
    Ok(Report::new(rows))
}
