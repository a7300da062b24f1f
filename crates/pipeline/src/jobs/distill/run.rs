//! The run itself: what it keeps, what it says, what it writes.

use std::fs::{File, TryLockError};
use std::path::Path;

use serde_json::{Value, json};
use slmc_checkpoint::{CheckpointWriter, Dtype};
use slmc_distill::{
    Data, DistillError, End, Length, Masks, Record, Rounding, Setup, State, Store, Trainer, Watcher,
};
use slmc_model::{MemorySource, ModelError, WeightSource};

use super::{DistillOutcome, PreparedDistill, StudentFrom};
use crate::PipelineError;
use crate::jobs::directory::PROVENANCE;
use crate::jobs::quantize::summary;
use crate::memory::peak_resident_bytes;
use crate::progress::{Reporter, Unit};
use crate::work::{Fingerprint, Work, WorkError};

/// The file whose lock says that a run is at work.
const LOCK: &str = "lock";

/// The metrics' name beside the weights.
const METRICS: &str = "metrics.jsonl";

impl PreparedDistill {
    /// Trains, and writes the best student.
    ///
    /// # Errors
    /// Reading, running or writing fails; training makes the student worse; the user stops it. What was kept by then stays in
    /// the work directory, and nothing is at the target.
    pub fn run(self, reporter: &dyn Reporter) -> Result<DistillOutcome, PipelineError> {
        let directory = Work::path(&self.settings.output);
        let outcome = self.train(&directory, reporter);
        // A run that failed before it kept anything leaves nothing.
        if outcome.is_err() && matches!(Store::begun(&directory), Ok(None)) {
            let _ = std::fs::remove_dir_all(&directory);
        }
        outcome
    }

    fn train(self, directory: &Path, reporter: &dyn Reporter) -> Result<DistillOutcome, PipelineError> {
        let left_out = self.student.left_out();
        if !left_out.is_empty() {
            let (count, names) = (left_out.len(), summary(&left_out));
            reporter.warn(&format!(
                "{count} tensors of the student are not part of the model and are left out: {names}"
            ));
        }
        let store = self.open(directory, reporter)?;
        let _lock = lock(directory)?;
        let (train, device) = (self.settings.train, self.settings.device.burn().map_err(ModelError::from)?);
        let fresh = self.student.weights()?;
        let masks = if train.keep_zeros { Masks::of_pruned(&fresh)? } else { Masks::default() };
        if masks.tensors() > 0 {
            reporter.warn(&format!(
                "{} zeros of {} pruned matrices stay zero (--train-zeros lets them grow)",
                masks.zeros(),
                masks.tensors()
            ));
        }
        let state = match store.load(self.student.config(), &train)? {
            Some(state) => {
                reporter.warn(&format!(
                    "resuming after {} steps in `{}`",
                    state.progress.step,
                    directory.display()
                ));
                state
            }
            None => State::new(fresh, &train),
        };
        let kept_zeros = masks.zeros();
        let setup = Setup {
            data: Data { train: &self.sequences.train, held_out: &self.sequences.held_out },
            teacher: Some(self.teacher.as_ref()),
            vocab: self.vocab,
            masks,
            rounding: self
                .grid
                .as_ref()
                .map(|grid| -> Box<Rounding<'_>> { Box::new(|id, values| grid.round(id, values)) }),
            device,
        };
        let mut trainer = Trainer::new(train, setup, state)?;

        let total = match train.length {
            Length::Steps(steps) => steps,
            Length::Seconds(seconds) => seconds.ceil() as u64,
        };
        reporter.begin_at("distilling", total, Unit::Steps, position(&trainer, train.length));
        let mut watcher = Bridge {
            store: &store,
            reporter,
            length: train.length,
            position: position(&trainer, train.length),
            held_out: String::new(),
        };
        let end = trainer.run(&mut watcher);
        reporter.end();
        let (end, progress) = (end?, *trainer.progress());
        drop(trainer);
        match end {
            End::Interrupted => {
                return Err(PipelineError::Interrupted {
                    directory: directory.to_owned(),
                    steps: progress.step as usize,
                });
            }
            End::WorseThanStart => {
                store.remove()?;
                return Err(PipelineError::Distill {
                    reason: format!(
                        "training made the student worse than it came, up to step {}, and was stopped; nothing was written. Try a \
                         lower --learning-rate than {}",
                        progress.step, train.schedule.peak
                    ),
                });
            }
            End::Finished | End::NoImprovement => {}
        }
        let (Some(start), Some(best)) = (progress.start, progress.best) else {
            unreachable!("a run begins with an evaluation")
        };
        let weights = store.load_best(self.student.config(), &progress)?;
        let bytes = self.write(&weights, &store.metrics()?)?;
        store.remove()?;
        Ok(DistillOutcome {
            student: match &self.settings.student {
                StudentFrom::Checkpoint(path) => path.display().to_string(),
                StudentFrom::Layers(layers) => format!("{layers} layers of the teacher"),
            },
            output: self.settings.output,
            teacher: self.settings.teacher,
            parameters: self.student.config().parameters(),
            objective: train.objective,
            end,
            steps: progress.step,
            skipped_steps: progress.skipped,
            tokens: progress.tokens,
            start,
            best: best.held_out,
            best_step: best.step,
            kept_zeros,
            qat: self.settings.qat,
            seconds: progress.seconds,
            tokens_per_second: progress.tokens as f64 / progress.seconds.max(f64::MIN_POSITIVE),
            peak_memory_bytes: peak_resident_bytes(),
            bytes,
        })
    }

    /// The work directory: a new one, or that of an earlier run if that is wanted and it was the same run.
    fn open(&self, directory: &Path, reporter: &dyn Reporter) -> Result<Store, PipelineError> {
        let inputs = self.fingerprint()?;
        let begun = Store::begun(directory)?;
        match begun {
            Some((steps, _)) if !self.settings.resume => {
                return Err(
                    WorkError::Unfinished { directory: directory.to_owned(), steps: steps as usize }.into()
                );
            }
            Some((_, begun)) => {
                let changes = serde_json::from_value::<Fingerprint>(begun)
                    .map_err(|_| WorkError::Version { directory: directory.to_owned() })?
                    .changes(&inputs);
                if !changes.is_empty() {
                    return Err(WorkError::Changed { directory: directory.to_owned(), changes }.into());
                }
            }
            None if self.settings.resume => {
                reporter.warn(&format!(
                    "`{}` holds no state: the run starts from the beginning",
                    directory.display()
                ));
            }
            None => {}
        }
        Ok(Store::new(directory, self.student.config_json.clone(), json!(inputs))?)
    }

    /// Writes the student as an ordinary checkpoint; gives the bytes of its weight files.
    fn write(&self, weights: &MemorySource, metrics: &str) -> Result<u64, PipelineError> {
        let exact = self.grid.is_some();
        let plan = self.student.layout(exact)?;
        let bytes = plan.total_bytes();
        let mut writer = CheckpointWriter::create(&self.settings.output, plan, self.existing)?;
        for id in weights.config().tensors() {
            let name = self.student.stored(id, exact)?.0;
            match weights.config().offset(id.role) {
                0.0 => writer.write_f32(&name, weights.values(id)?)?,
                offset => {
                    let values: Vec<f32> = weights.values(id)?.iter().map(|value| value - offset).collect();
                    writer.write_f32(&name, &values)?;
                }
            }
        }
        let mut config: Value = self.student.config_json.clone();
        if exact && let Some(fields) = config.as_object_mut() {
            slmc_checkpoint::config::set_dtype(fields, Dtype::F32);
        }
        config[PROVENANCE] = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "recipe": { "distill": self.settings.train, "text_sha256": self.sequences.hash },
        });
        writer.write_config(&config)?;
        writer.copy_side_files(&self.student.checkpoint)?;
        writer.write_file(METRICS, metrics.as_bytes())?;
        writer.finish()?;
        Ok(bytes)
    }
}

/// How far the bar is.
fn position(trainer: &Trainer<'_>, length: Length) -> u64 {
    match length {
        Length::Steps(_) => trainer.progress().step,
        Length::Seconds(_) => trainer.progress().seconds as u64,
    }
}

/// The lock of a work directory; it ends with the process.
fn lock(directory: &Path) -> Result<File, WorkError> {
    let path = directory.join(LOCK);
    let file =
        File::options().write(true).create(true).truncate(false).open(&path).map_err(WorkError::io(&path))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(WorkError::InUse { directory: directory.to_owned() }),
        _ => Ok(file),
    }
}

/// Tells the reporter what the trainer tells, and keeps it.
struct Bridge<'a> {
    store: &'a Store,
    reporter: &'a dyn Reporter,
    length: Length,
    position: u64,
    held_out: String,
}

impl Watcher for Bridge<'_> {
    fn record(&mut self, record: &Record) -> Result<(), DistillError> {
        match record {
            Record::Step { step, loss, divergence, tokens_per_second, applied, seconds, .. } => {
                let now = match self.length {
                    Length::Steps(_) => *step,
                    Length::Seconds(_) => *seconds as u64,
                };
                self.reporter.advance(now.saturating_sub(self.position));
                self.position = now;
                if !applied {
                    self.reporter.warn(&format!("step {step}: loss or gradient not finite; skipped"));
                }
                self.reporter.status(&format!(
                    "step {step}, loss {loss:.4}, KL {divergence:.4}{}, {tokens_per_second:.0} tokens/s",
                    self.held_out
                ));
            }
            Record::HeldOut { loss, best, .. } => {
                self.held_out = format!(", held out {loss:.4}{}", if *best { "*" } else { "" });
            }
        }
        self.store.record(record)
    }

    fn best(&mut self, trainer: &Trainer<'_>) -> Result<(), DistillError> {
        self.store.save_best(trainer)
    }

    fn save(&mut self, trainer: &Trainer<'_>) -> Result<(), DistillError> {
        self.store.save(trainer)
    }

    fn is_cancelled(&self) -> bool {
        self.reporter.is_cancelled()
    }
}
