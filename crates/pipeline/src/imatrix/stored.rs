//! A block's entries in the work directory, and back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use slmc_gguf::imatrix::Entry;

use crate::PipelineError;
use crate::work::{Step, Work};

/// What is noted beside the sums.
#[derive(Serialize, Deserialize)]
struct Facts {
    tokens: u64,
}

/// Keeps entries of one matrix each, all of the same tokens.
pub(super) fn store(
    work: Option<&Work>,
    step: Step,
    entries: &[(String, Entry)],
) -> Result<(), PipelineError> {
    let Some(work) = work else { return Ok(()) };
    for (name, entry) in entries {
        work.put_values(name, entry.sums())?;
    }
    let tokens = entries.first().and_then(|(_, entry)| entry.counts().first().copied()).unwrap_or_default();
    Ok(work.finish(step, &Facts { tokens })?)
}

/// Takes over what an earlier run found in a step; false where it found nothing.
pub(super) fn restore(
    work: Option<&Work>,
    step: Step,
    entries: &mut BTreeMap<String, Entry>,
) -> Result<bool, PipelineError> {
    let Some(finished) = work.and_then(|work| work.finished(step)) else { return Ok(false) };
    let Facts { tokens } = finished.facts()?;
    for name in finished.names() {
        let entry = Entry::new(finished.values(name)?, &[tokens as f64])
            .map_err(|source| PipelineError::ImportanceEntry { tensor: name.to_owned(), source })?;
        entries.insert(name.to_owned(), entry);
    }
    Ok(true)
}
