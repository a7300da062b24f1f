//! A pruned model as a GGUF file: a checkpoint beside it first, which is then converted and removed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use slmc_checkpoint::Checkpoint;

use super::quantize::{KeepZeros, MadeFrom, Mix, Prepared, QuantizeSettings};
use crate::PipelineError;
use crate::model_file::ModelFile;
use crate::progress::Reporter;

/// A GGUF file instead of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsGguf {
    /// Its types: a mix without quantization.
    pub mix: Mix,
    /// Whether to write an Ollama Modelfile beside it.
    pub modelfile: bool,
}

/// The checkpoint to write: the output, or one beside a GGUF file.
pub(super) fn checkpoint_of(output: &Path, gguf: Option<AsGguf>) -> PathBuf {
    if gguf.is_none() {
        return output.to_owned();
    }
    let mut name = OsString::from(output);
    name.push(".checkpoint");
    name.into()
}

/// What makes the GGUF file of a checkpoint that was made from `original` by `recipe`. Zeros are counted in it again where they matter.
pub(super) fn conversion(
    (checkpoint, output, AsGguf { mix, modelfile }): (&Path, &Path, AsGguf),
    (original, recipe): (&Arc<Checkpoint>, Value),
    keep_zeros: KeepZeros,
) -> QuantizeSettings {
    let name = ModelFile::Checkpoint(Arc::clone(original)).name();
    QuantizeSettings {
        keep_zeros,
        modelfile,
        made_from: Some(MadeFrom { name, recipe }),
        ..QuantizeSettings::conversion(checkpoint.to_owned(), mix, output.to_owned(), None)
    }
}

/// Writes the GGUF file and removes the checkpoint it is made from. Returns where the Modelfile is, if one was wanted.
///
/// # Errors
/// Writing fails; zeros that are none in the file. The checkpoint stays then.
pub(super) fn convert(
    conversion: QuantizeSettings,
    reporter: &dyn Reporter,
) -> Result<Option<PathBuf>, PipelineError> {
    let made = conversion.job.model.clone();
    let modelfile = Prepared::new(conversion)?.run(reporter)?.modelfile;
    std::fs::remove_dir_all(&made)
        .map_err(|error| PipelineError::Output { path: made, reason: error.to_string() })?;
    Ok(modelfile)
}
