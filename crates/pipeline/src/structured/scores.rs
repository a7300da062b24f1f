//! A profile in a file, for the next run of the same model and text.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use slmc_checkpoint::Checkpoint;
use slmc_report::file::write_whole;

use super::Profile;
use crate::PipelineError;
use crate::work::{Fingerprint, WorkError};

/// Version of the file.
const FORMAT: u32 = 1;

/// A profile and what it was taken of.
#[derive(Debug, Serialize, Deserialize)]
pub struct Scores {
    slmc_scores: u32,
    inputs: Fingerprint,
    /// The profile.
    pub profile: Profile,
}

impl Scores {
    /// What a profile of this checkpoint on these calibration tokens depends on.
    ///
    /// # Errors
    /// The checkpoint cannot be read.
    pub fn inputs(checkpoint: &Checkpoint, calibration_sha256: &str) -> Result<Fingerprint, PipelineError> {
        let mut inputs = Fingerprint::default();
        inputs.content("the calibration text", calibration_sha256.as_bytes());
        inputs.content("config.json", checkpoint.config_json().to_string().as_bytes());
        for path in checkpoint.weight_files() {
            inputs.weight_file(path).map_err(WorkError::io(path))?;
        }
        Ok(inputs)
    }

    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// It cannot be read, is none of scores, or was made of something else than `inputs`.
    pub fn read(path: &Path, inputs: &Fingerprint) -> Result<Option<Self>, PipelineError> {
        let refuse = |reason: String| PipelineError::Scores { path: path.to_owned(), reason };
        let text = match fs::read(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|error| refuse(error.to_string()))?,
        };
        let scores: Self = serde_json::from_slice(&text)
            .map_err(|error| refuse(format!("is no file of scores: {error}")))?;
        if scores.slmc_scores != FORMAT {
            return Err(refuse(format!("has version {}; this slmc reads {FORMAT}", scores.slmc_scores)));
        }
        if let Some(change) = scores.inputs.changes(inputs).first() {
            return Err(refuse(format!(
                "was made of something else ({change}); name another file to make new ones"
            )));
        }
        Ok(Some(scores))
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(path: &Path, inputs: Fingerprint, profile: &Profile) -> Result<(), PipelineError> {
        let refuse = |error: std::io::Error| PipelineError::Scores {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let scores = Self { slmc_scores: FORMAT, inputs, profile: profile.clone() };
        let text = serde_json::to_vec(&scores).map_err(|error| refuse(error.into()))?;
        write_whole(path, &text).map_err(refuse)
    }
}
