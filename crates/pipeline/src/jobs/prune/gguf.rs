//! A pruned model as a GGUF file: a checkpoint beside it first, which is then converted and removed.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Prepared, PreparedPrune, PruneSettings};
use crate::PipelineError;
use crate::jobs::quantize::{KeepZeros, MadeFrom, QuantizeSettings};
use crate::model_file::ModelFile;
use crate::progress::Reporter;

/// The checkpoint to write: the output, or one beside a GGUF file.
pub(super) fn checkpoint(settings: &PruneSettings) -> PathBuf {
    if settings.gguf.is_none() {
        return settings.output.clone();
    }
    let mut name = OsString::from(&settings.output);
    name.push(".checkpoint");
    name.into()
}

impl PreparedPrune {
    /// What makes the GGUF file of a checkpoint, if one is wanted; zeros are counted in it again.
    pub(super) fn conversion(&self, checkpoint: PathBuf) -> Option<QuantizeSettings> {
        let settings = &self.settings;
        let made_from = MadeFrom {
            name: ModelFile::Checkpoint(Arc::clone(&self.checkpoint)).name(),
            recipe: self.recipe(),
        };
        Some(QuantizeSettings {
            keep_zeros: KeepZeros::Always,
            made_from: Some(made_from),
            ..QuantizeSettings::conversion(checkpoint, settings.gguf?, settings.output.clone(), None)
        })
    }

    /// Writes the GGUF file, if one is wanted, and removes the checkpoint it is made from.
    ///
    /// # Errors
    /// Writing fails; zeros that are none in the file. The checkpoint stays then.
    pub(super) fn convert(&self, reporter: &dyn Reporter) -> Result<(), PipelineError> {
        let made = checkpoint(&self.settings);
        let Some(conversion) = self.conversion(made.clone()) else { return Ok(()) };
        Prepared::new(conversion)?.run(reporter)?;
        std::fs::remove_dir_all(&made)
            .map_err(|error| PipelineError::Output { path: made, reason: error.to_string() })
    }
}
