//! An importance matrix that llama-quantize and `slmc quantize --imatrix` take.

use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;
use slmc_calibration::{BatchOptions, TextSource};
use slmc_gguf::imatrix::ImportanceMatrix;
use slmc_model::{Device, ModelError};

use crate::PipelineError;
use crate::batches::{calibration_batches, warn_of_missing};
use crate::imatrix::gather;
use crate::memory::peak_resident_bytes;
use crate::model_file::ModelFile;
use crate::progress::Reporter;
use crate::walker::Walk;

/// What to do.
#[derive(Clone, Debug)]
pub struct ImatrixSettings {
    /// The checkpoint or GGUF file.
    pub model: PathBuf,
    /// Calibration text; empty for the bundled corpus.
    pub calibration: Vec<TextSource>,
    /// Calibration samples, their length and seed.
    pub batches: BatchOptions,
    /// Takes every sample that the text has, however many were asked for.
    pub all: bool,
    /// Where the model runs.
    pub device: Device,
    /// The file to write.
    pub output: PathBuf,
}

/// What came out.
#[derive(Debug, Serialize)]
pub struct ImatrixOutcome {
    /// The file written.
    pub output: PathBuf,
    /// Its bytes.
    pub bytes: u64,
    /// Matrices with an entry.
    pub entries: usize,
    /// Names of the texts.
    pub datasets: Vec<String>,
    /// SHA-256 of the calibration tokens.
    pub calibration_sha256: String,
    /// Samples run.
    pub samples: usize,
    /// Tokens a sample.
    pub seq_len: usize,
    /// Wall time of running them, loading the model's blocks included.
    pub seconds: f64,
    /// Tokens run a second.
    pub tokens_per_second: f64,
    /// Peak resident memory of the process so far.
    pub peak_memory_bytes: Option<u64>,
}

/// Runs the job.
///
/// # Errors
/// A model or text that cannot be read; activations that are not finite; an output that is the model itself or cannot be
/// written; the user cancels. Nothing is left behind then.
pub fn imatrix(settings: &ImatrixSettings, reporter: &dyn Reporter) -> Result<ImatrixOutcome, PipelineError> {
    let model = ModelFile::open(&settings.model)?;
    refuse_model_as_output(settings)?;
    let source = model.source()?;
    let mut options = settings.batches.clone();
    if settings.all {
        options.samples = usize::MAX;
    }
    let batches = calibration_batches(&model, source.config(), &settings.calibration, &options)?;
    if !settings.all {
        warn_of_missing(&batches, reporter);
    }
    let started = Instant::now();
    let device = settings.device.burn().map_err(ModelError::from)?;
    let entries = gather(&Walk::new(source.as_ref(), &batches.tokens, &device, reporter), None)?;
    let seconds = started.elapsed().as_secs_f64();
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX); // what the format can say
    let matrix = ImportanceMatrix {
        entries,
        datasets: datasets(&settings.calibration),
        chunk_count: count(batches.tokens.len()),
        chunk_size: count(batches.seq_len),
        calibration_sha256: Some(batches.hash.clone()),
    };
    let bytes = matrix.write(&settings.output)?;
    Ok(ImatrixOutcome {
        output: settings.output.clone(),
        bytes,
        entries: matrix.entries.len(),
        datasets: matrix.datasets,
        samples: batches.tokens.len(),
        seq_len: batches.seq_len,
        seconds,
        tokens_per_second: batches.total_tokens() as f64 / seconds,
        peak_memory_bytes: peak_resident_bytes(),
        calibration_sha256: batches.hash,
    })
}

fn refuse_model_as_output(settings: &ImatrixSettings) -> Result<(), PipelineError> {
    let same = match (settings.model.canonicalize(), settings.output.canonicalize()) {
        (Ok(model), Ok(output)) => model == output,
        _ => false, // the output is not there yet
    };
    if same {
        let reason = "this is the model; name another file for the importance matrix".into();
        return Err(PipelineError::Output { path: settings.output.clone(), reason });
    }
    Ok(())
}

/// Files by their names alone: where they lie is nobody's business.
fn datasets(texts: &[TextSource]) -> Vec<String> {
    let name = |text: &TextSource| match text {
        TextSource::File(path) => {
            path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into())
        }
        TextSource::Bundled(_) => text.to_string(),
    };
    if texts.is_empty() { vec![TextSource::default().to_string()] } else { texts.iter().map(name).collect() }
}
