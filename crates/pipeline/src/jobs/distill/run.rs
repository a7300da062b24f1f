//! The run itself: what it keeps, what it says, what it writes.

use std::fs::{File, TryLockError};
use std::path::Path;

use serde_json::json;
use slmc_distill::{
    Data, DistillError, End, Length, Masks, Parameter, Record, ScaledGrid, Setup, Store, Teacher, Trained,
    Trainer, Watcher,
};
use slmc_model::{MemorySource, ModelError};

use super::{DistillOutcome, OpenTeacher, PreparedDistill, StudentFrom, TeacherFrom};
use crate::PipelineError;
use crate::jobs::job::summary;
use crate::memory::peak_resident_bytes;
use crate::progress::{Reporter, Unit};
use crate::work::{Fingerprint, Work, WorkError};

/// The file whose lock says that a run is at work.
const LOCK: &str = "lock";

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

    /// The student before its first step.
    fn begin(&self) -> Result<MemorySource, PipelineError> {
        match (&self.stored, &self.teacher) {
            (Some(stored), _) if self.settings.trained == Trained::Scales => stored.scales(),
            (Some(stored), OpenTeacher::Model { source, .. }) => stored.weights(Some(source.as_ref())),
            (Some(stored), OpenTeacher::Logits(_)) => stored.weights(None),
            (None, _) => self.student.begin(&self.settings.trained, self.settings.train.seed),
        }
    }

    fn train(self, directory: &Path, reporter: &dyn Reporter) -> Result<DistillOutcome, PipelineError> {
        // Adapters alone leave the student as it is.
        let left_out = if self.adapters_alone().is_some() { Vec::new() } else { self.student.left_out() };
        if !left_out.is_empty() {
            let (count, names) = (left_out.len(), summary(&left_out));
            reporter.warn(&format!(
                "{count} tensors of the student are not part of the model and are left out: {names}"
            ));
        }
        if let Some(reason) = self.modelfile.as_ref().and_then(|modelfile| modelfile.left_out.as_ref()) {
            reporter.warn(&format!("the Modelfile has no TEMPLATE: {reason}"));
        }
        let store = self.open(directory, reporter)?;
        let _lock = lock(directory)?;
        let (train, device) = (self.settings.train, self.settings.device.burn().map_err(ModelError::from)?);
        let fresh = self.begin()?;
        let trained_parameters = Parameter::all(&fresh)?.iter().map(|part| part.values.len()).sum();
        // A grid of few levels has zeros of its own.
        let pruned = train.keep_zeros && self.stored.is_none();
        let masks = if pruned { Masks::of_pruned(&fresh)? } else { Masks::default() };
        if masks.tensors() > 0 {
            reporter.warn(&format!(
                "{} zeros of {} pruned matrices stay zero (--train-zeros lets them grow)",
                masks.zeros(),
                masks.tensors()
            ));
        }
        let begun = Store::begun(directory)?.is_some();
        let state = store.load(fresh, &train)?;
        if begun {
            reporter.warn(&format!(
                "resuming after {} steps in `{}`",
                state.progress.step,
                directory.display()
            ));
        }
        let kept_zeros = masks.zeros();
        let scaled = self.settings.trained == Trained::Scales;
        let setup = Setup {
            data: Data { train: &self.sequences.train, held_out: &self.sequences.held_out },
            teacher: Some(match &self.teacher {
                OpenTeacher::Model { source, .. } => Teacher::Model(source.as_ref()),
                OpenTeacher::Logits(cache) => Teacher::Cached(cache),
            }),
            vocab: self.vocab,
            ends: match train.on_policy > 0.0 {
                true => self
                    .student
                    .file
                    .end_tokens(&self.student.file.tokenizer(self.student.config().vocab_size)?)?,
                false => Vec::new(),
            },
            masks,
            rounding: match (&self.stored, &self.grid) {
                _ if scaled => None,
                (Some(stored), _) => Some(Box::new(|id, values| stored.round(id, values))),
                (None, Some(grid)) => Some(Box::new(|id, values| grid.round(id, values))),
                (None, None) => None,
            },
            grid: self.stored.as_ref().filter(|_| scaled).map(|stored| stored as &dyn ScaledGrid),
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
        let student = trainer.into_state().weights;
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
        let weights = store.load_best(student, &progress)?;
        let (bytes, modelfile) = self.write(&weights, (&store.metrics()?, &progress), reporter)?;
        store.remove()?;
        Ok(DistillOutcome {
            student: match &self.settings.student {
                StudentFrom::Checkpoint(path) | StudentFrom::Config(path) => path.display().to_string(),
                StudentFrom::Layers(layers) => format!("{layers} layers of the teacher"),
                StudentFrom::Cut(sizes) => format!("{sizes} of the teacher"),
            },
            output: self.settings.output,
            modelfile,
            teacher: match self.settings.teacher {
                TeacherFrom::Model(path) => path,
                TeacherFrom::Logits(path) => path,
            },
            parameters: self.student.config().parameters(),
            trained: self.settings.trained,
            trained_parameters,
            objective: train.objective,
            precision: train.precision,
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
}

/// How far the bar is.
fn position(trainer: &Trainer<'_>, length: Length) -> u64 {
    match length {
        Length::Steps(_) => trainer.progress().step,
        Length::Seconds(_) => trainer.progress().seconds as u64,
    }
}

/// The lock of a work directory; it ends with the process.
pub(super) fn lock(directory: &Path) -> Result<File, WorkError> {
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
