//! What the file says of how it was made.

use serde_json::json;
use slmc_calibration::TokenBatches;
use slmc_checkpoint::Checkpoint;
use slmc_quant::plan::{KeepZeros, Target};
use slmc_quant::{Method, Rounding};

use super::QuantizeSettings;
use crate::PipelineError;
use crate::export::Provenance;
use crate::imatrix::ImportanceFile;
use crate::jobs::directory::PROVENANCE;

/// Whether an importance matrix is all that the method needs to know of the activations.
pub(super) fn check_takes_imatrix(method: Method) -> Result<(), PipelineError> {
    let reason = match method {
        Method::Imatrix => return Ok(()),
        Method::Rtn => "it weighs no errors, so the file would change nothing",
        Method::Awq => "it searches its scales on the activations themselves, which the file does not hold",
        Method::Gptq => {
            "it needs the whole matrix of the inputs' second moments, of which the file holds the diagonal"
        }
        Method::AwqGptq => "it needs the activations themselves, which the file does not hold",
    };
    Err(PipelineError::ImatrixMethod { method, reason })
}

/// The recipe that goes into the file: what a user would type again. Paths and thread counts stay out.
pub(super) fn provenance(
    settings: &QuantizeSettings,
    checkpoint: &Checkpoint,
    batches: Option<&TokenBatches>,
    imatrix: Option<&ImportanceFile>,
) -> Provenance {
    let mut recipe = match settings.target {
        Some(Target::Mix) => {
            json!({ "method": settings.method, "mix": settings.mix, "fallback": "measured" })
        }
        Some(target) => json!({ "method": settings.method, "target": target }),
        None => json!({ "method": settings.method, "mix": settings.mix }),
    };
    // what slmc made the checkpoint from, pruning for one
    let kept = checkpoint.config_json().get(PROVENANCE).and_then(|made| made.get("recipe"));
    if let Some(source) = settings.made_from.as_ref().map(|from| &from.recipe).or(kept) {
        recipe["source"] = source.clone();
    }
    if !settings.overrides.is_empty() {
        recipe["tensor_type"] = settings.overrides.iter().map(ToString::to_string).collect();
    }
    if !settings.keep.is_empty() {
        recipe["keep"] = settings.keep.iter().map(ToString::to_string).collect();
    }
    if settings.method.rounding() == Rounding::Feedback {
        recipe["effort"] = json!(settings.effort);
        if settings.act_order {
            recipe["act_order"] = true.into();
        }
    }
    if batches.is_some() {
        settings.job.describe_samples(&mut recipe);
    }
    if settings.keep_zeros != KeepZeros::Auto {
        recipe["keep_zeros"] = json!(settings.keep_zeros);
    }
    if let Some(file) = imatrix {
        recipe["imatrix"] = file.provenance();
    }
    let calibration_sha256 = batches.map(|b| b.hash.clone()).or_else(|| imatrix?.calibration_sha256.clone());
    Provenance { recipe: recipe.to_string(), calibration_sha256 }
}
