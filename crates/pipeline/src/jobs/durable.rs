//! What makes a calibrated run one that keeps within its memory and can be killed and resumed: its footing, and its work
//! directory from opening it to removing it.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;
use slmc_calibration::TokenBatches;
use slmc_checkpoint::Checkpoint;
use slmc_model::{ModelConfig, ModelError, WeightSource};

use super::job::JobSettings;
use crate::PipelineError;
use crate::hidden::Storage;
use crate::memory::{
    ByteSize, Demands, Footing, Workload, give_back_blocks_of, installed_bytes, resident_bytes,
};
use crate::progress::Reporter;
use crate::walker::Walk;
use crate::work::{Fingerprint, Work, WorkError};

/// Freed blocks from this size on go back to the system during calibration. Smaller ones are many and are used again.
const LARGE_BLOCK: u32 = 64 << 20;

/// The same where the limit is near: it takes twice the time in the system, and the allocator holds hardly anything free.
const SMALL_BLOCK: u32 = 4 << 20;

/// A limit is near where it leaves less room than this part of the estimate.
const ROOM: u64 = 3;

/// Files of a checkpoint, besides the weights, that decide what is written.
const SIDE_FILES: [&str; 5] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
];

/// A run that may be calibrated, as its settings and its model describe it.
pub(super) struct Durable<'a> {
    /// Where it runs, within what, and whether it goes on.
    pub job: &'a JobSettings,
    /// What is written: the job's output, or what that is made from.
    pub output: &'a Path,
    /// What decides how much memory it needs.
    pub demands: Demands,
    /// What a user would type again, as JSON.
    pub recipe: &'a str,
    /// Name of the pre-tokenizer, where it was given.
    pub pre: Option<&'a str>,
    /// The checkpoint.
    pub checkpoint: &'a Checkpoint,
    /// Its weights.
    pub source: &'a dyn WeightSource,
    /// What it is calibrated on; `None` for a run without calibration.
    pub batches: Option<&'a TokenBatches>,
}

/// How memory is used within the limit; `batch_tokens` where an earlier run has fixed it.
///
/// # Errors
/// No way keeps within the limit.
pub(super) fn footing(
    demands: Demands,
    max_memory: Option<ByteSize>,
    config: &ModelConfig,
    batches: Option<&TokenBatches>,
    batch_tokens: Option<usize>,
) -> Result<Footing, PipelineError> {
    let workload = Workload {
        config,
        demands,
        sequences: batches.map_or(0, |b| b.tokens.len()),
        seq_len: batches.map_or(0, |b| b.seq_len),
        held: resident_bytes().unwrap_or_default(),
    };
    let limit = max_memory.map(|limit| limit.0);
    let footing = workload.footing(limit, installed_bytes(), batch_tokens)?;
    if batches.is_some() {
        let near = limit.is_some_and(|limit| footing.peak_bytes + footing.peak_bytes / ROOM > limit);
        give_back_blocks_of(if near { SMALL_BLOCK } else { LARGE_BLOCK });
    }
    Ok(footing)
}

/// Says where a run needs more memory than the machine has.
pub(super) fn warn_of_memory(footing: &Footing, reporter: &dyn Reporter) {
    if let Some(installed) = installed_bytes().filter(|&installed| footing.peak_bytes > installed) {
        let [needed, installed] = [footing.peak_bytes, installed].map(ByteSize);
        reporter.warn(&format!("about {needed} of memory are needed, and this machine has {installed}"));
    }
}

impl Durable<'_> {
    /// Does `run` with a walk over the calibration sequences and the work directory that keeps what is finished, or without
    /// both where there is no calibration. How memory is used follows `footing`, but for what was begun in the directory.
    ///
    /// # Errors
    /// As [`Work::open`]; what was begun does not keep within the limit; those of `run`.
    pub fn run<T>(
        &self,
        plan: &impl Serialize,
        footing: Footing,
        reporter: &dyn Reporter,
        run: impl FnOnce(Option<(&Walk<'_>, &Work)>, &Footing) -> Result<T, PipelineError>,
    ) -> Result<T, PipelineError> {
        let Some(batches) = self.batches else {
            if self.job.resume {
                reporter.warn("without calibration a run is done in one go: there is nothing to resume");
            }
            return run(None, &footing);
        };
        let inputs = self.fingerprint(plan, &batches.hash)?;
        let work = open(self.output, self.job.resume, inputs, footing.batch_tokens, reporter)?;
        let result = self.walk(batches, footing, &work, reporter, run);
        close(work, result, reporter)
    }

    fn walk<T>(
        &self,
        batches: &TokenBatches,
        mut footing: Footing,
        work: &Work,
        reporter: &dyn Reporter,
        run: impl FnOnce(Option<(&Walk<'_>, &Work)>, &Footing) -> Result<T, PipelineError>,
    ) -> Result<T, PipelineError> {
        let (config, batch_tokens) = (self.source.config(), work.batch_tokens());
        if batch_tokens != footing.batch_tokens {
            let limit = self.job.max_memory;
            footing = self::footing(self.demands, limit, config, Some(batches), Some(batch_tokens))?;
        }
        let storage = match footing.spill {
            true => Storage::File(work.directory().to_owned()),
            false => Storage::Memory,
        };
        let device = self.job.device.burn().map_err(ModelError::from)?;
        let walk = Walk {
            batch_tokens,
            storage: &storage,
            kept_input_bytes: footing.kept_input_bytes,
            precision: self.job.precision,
            ..Walk::new(self.source, &batches.tokens, &device, reporter)
        };
        run(Some((&walk, work)), &footing)
    }

    /// What the output depends on: this version of slmc, the recipe, the plan, the calibration tokens, the device, the
    /// checkpoint's small files by their content, and its weights as [`Fingerprint::weight_file`] says. Not the number of
    /// threads, which changes nothing; and not the processor, whose last bits may differ from another's.
    fn fingerprint(&self, plan: &impl Serialize, calibration_sha256: &str) -> Result<Fingerprint, WorkError> {
        let mut inputs = Fingerprint::default();
        inputs.value("slmc's version", env!("CARGO_PKG_VERSION"));
        let recipe: Value = serde_json::from_str(self.recipe).unwrap_or_default();
        for (option, value) in recipe.as_object().into_iter().flatten() {
            inputs.value(option.replace('_', " "), value);
        }
        inputs.value("device", self.job.device.name());
        inputs.value("pre-tokenizer", self.pre.unwrap_or("recognized"));
        inputs.content("the calibration text", calibration_sha256.as_bytes());
        for name in SIDE_FILES {
            let path = self.checkpoint.dir().join(name);
            if path.is_file() {
                inputs.content(name, &std::fs::read(&path).map_err(WorkError::io(&path))?);
            }
        }
        for path in self.checkpoint.weight_files() {
            inputs.weight_file(path).map_err(WorkError::io(path))?;
        }
        inputs.content("the plan", &serde_json::to_vec(plan).unwrap_or_default());
        Ok(inputs)
    }
}

/// Opens the work directory of `output`, and says what was found there.
///
/// # Errors
/// As [`Work::open`].
fn open(
    output: &Path,
    resume: bool,
    inputs: Fingerprint,
    batch_tokens: usize,
    reporter: &dyn Reporter,
) -> Result<Work, WorkError> {
    let path = Work::path(output);
    let work = Work::open(&path, resume, inputs, batch_tokens)?;
    match work.steps() {
        0 if resume => reporter
            .warn(&format!("`{}` holds no finished step: the run starts from the beginning", path.display())),
        0 => {}
        steps => reporter.warn(&format!("resuming after {steps} finished steps in `{}`", path.display())),
    }
    Ok(work)
}

/// Ends a run: the work directory of a failed one stays if it holds anything, and the user is told.
///
/// # Errors
/// The run's own; after a success, the directory cannot be removed.
fn close<T>(
    work: Work,
    result: Result<T, PipelineError>,
    reporter: &dyn Reporter,
) -> Result<T, PipelineError> {
    let (directory, steps) = (work.directory().to_owned(), work.steps());
    if result.is_ok() || steps == 0 {
        let removed = work.remove();
        let value = result?;
        removed?;
        return Ok(value);
    }
    result.map_err(|error| match error {
        PipelineError::Cancelled => PipelineError::Interrupted { directory, steps },
        error => {
            let place = directory.display();
            reporter
                .warn(&format!("{steps} finished steps are kept in `{place}`: --resume continues the run"));
            error
        }
    })
}
