//! What every job that makes something smaller of a checkpoint is told, whatever it makes, and what all of them do with it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use slmc_calibration::{BatchOptions, TextSource, TokenBatches};
use slmc_checkpoint::Checkpoint;
use slmc_matmul::Precision;
use slmc_model::{Device, ModelConfig};

use super::durable;
use super::evaluate::{EvaluateOutcome, Measure, evaluate_written};
use crate::PipelineError;
use crate::batches::{calibration_batches, warn_of_missing};
use crate::hidden::Storage;
use crate::memory::{ByteSize, Demands, Footing};
use crate::model_file::ModelFile;
use crate::progress::Reporter;

/// From where, to where, calibrated and measured on what, within what.
#[derive(Clone, Debug)]
pub struct JobSettings {
    /// The checkpoint.
    pub model: PathBuf,
    /// Whether the text model of one for several modalities is meant.
    pub text_only: bool,
    /// Calibration text; empty for the bundled corpus.
    pub calibration: Vec<TextSource>,
    /// Calibration samples, their length and seed.
    pub batches: BatchOptions,
    /// Where the model runs during calibration.
    pub device: Device,
    /// What calibration multiplies in.
    pub precision: Precision,
    /// The file or directory to write.
    pub output: PathBuf,
    /// How to measure the result; `None` not to.
    pub measure: Option<Measure>,
    /// Resident memory that calibrating and writing may take; `None` for what the machine has.
    pub max_memory: Option<ByteSize>,
    /// Whether to go on with what an earlier run of the same settings left.
    pub resume: bool,
}

impl JobSettings {
    /// From a checkpoint to an output, on the CPU with the bundled calibration text, and nothing measured.
    pub fn new(model: PathBuf, output: PathBuf) -> Self {
        Self {
            model,
            text_only: false,
            calibration: Vec::new(),
            batches: BatchOptions::default(),
            device: Device::Cpu,
            precision: Precision::F32,
            output,
            measure: None,
            max_memory: None,
            resume: false,
        }
    }

    /// Opens the checkpoint.
    ///
    /// # Errors
    /// As [`ModelFile::open_original`].
    pub(super) fn open(&self) -> Result<(ModelFile, Arc<Checkpoint>), PipelineError> {
        ModelFile::open_original(&self.model, self.text_only)
    }

    /// The calibration tokens, where any are `needed`.
    ///
    /// # Errors
    /// As [`calibration_batches`].
    pub(super) fn tokens(
        &self,
        model: &ModelFile,
        config: &ModelConfig,
        needed: bool,
    ) -> Result<Option<TokenBatches>, PipelineError> {
        needed.then(|| calibration_batches(model, config, &self.calibration, &self.batches)).transpose()
    }

    /// How memory is used.
    ///
    /// # Errors
    /// No way keeps within the limit.
    pub(super) fn footing(
        &self,
        demands: Demands,
        config: &ModelConfig,
        batches: Option<&TokenBatches>,
    ) -> Result<Footing, PipelineError> {
        durable::footing(demands, self.max_memory, config, batches, None)
    }

    /// Where hidden states are kept before there is a work directory: beside the output, where they take too much memory.
    pub(super) fn storage(&self, footing: &Footing) -> Storage {
        let directory = self.output.parent().filter(|directory| !directory.as_os_str().is_empty());
        match footing.spill {
            true => Storage::File(directory.unwrap_or(Path::new(".")).to_owned()),
            false => Storage::Memory,
        }
    }

    /// Adds to a recipe how the calibration tokens were chosen, and what they were multiplied in.
    pub(super) fn describe_samples(&self, recipe: &mut Value) {
        recipe["samples"] = self.batches.samples.into();
        recipe["seq_len"] = self.batches.seq_len.into();
        recipe["seed"] = self.batches.seed.into();
        if self.precision != Precision::F32 {
            recipe["precision"] = self.precision.name().into();
        }
    }

    /// Measures what was written beside what it was made from, where that is wanted.
    ///
    /// # Errors
    /// As [`evaluate_written`].
    pub(super) fn evaluate(&self, reporter: &dyn Reporter) -> Result<Option<EvaluateOutcome>, PipelineError> {
        evaluate_written(&self.output, Some(&self.model), self.measure.clone(), reporter)
    }
}

/// Says what is left out, where memory will not do, and where the text gave fewer samples than were asked for.
pub(super) fn warn(
    (left_out, config): (&[String], &ModelConfig),
    (footing, batches): (&Footing, Option<&TokenBatches>),
    reporter: &dyn Reporter,
) {
    warn_of_left_out(left_out, config, reporter);
    durable::warn_of_memory(footing, reporter);
    if let Some(batches) = batches {
        warn_of_missing(batches, reporter);
    }
}

/// Says which tensors of a checkpoint are not part of the model.
pub(super) fn warn_of_left_out(left_out: &[String], config: &ModelConfig, reporter: &dyn Reporter) {
    if !left_out.is_empty() {
        reporter.warn(&format!(
            "{} tensors of the checkpoint are not part of a {} model and are left out: {}",
            left_out.len(),
            config.arch.model_type,
            summary(left_out),
        ));
    }
}

/// The first of many names.
pub(super) fn summary(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown}, …") } else { shown }
}
