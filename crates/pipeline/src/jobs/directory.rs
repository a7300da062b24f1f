//! Outputs that are checkpoint directories.

use std::path::Path;

use serde_json::Value;
use slmc_checkpoint::ExistingTarget;

use crate::PipelineError;

/// The field of `config.json` that says what wrote it.
pub(super) const PROVENANCE: &str = "slmc";

/// A directory may be replaced if slmc wrote it; others that are not empty are refused when writing begins.
///
/// # Errors
/// The output is the model itself.
pub(super) fn may_replace(output: &Path, model: &Path) -> Result<ExistingTarget, PipelineError> {
    let same = |a: &Path, b: &Path| a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b));
    if same(output, model) {
        return Err(PipelineError::Output {
            path: output.to_owned(),
            reason: "is the checkpoint itself; name another directory".into(),
        });
    }
    // PEFT keeps no metrics beside its adapters.
    let adapters = ["adapter_config.json", "metrics.jsonl"].iter().all(|file| output.join(file).is_file());
    let ours = adapters
        || match std::fs::read(output.join("config.json")) {
            Ok(text) => {
                serde_json::from_slice(&text).is_ok_and(|config: Value| config.get(PROVENANCE).is_some())
            }
            Err(_) => false,
        };
    Ok(if ours { ExistingTarget::Replace } else { ExistingTarget::Refuse })
}
