//! A run's work directory: its state, its best student, its metrics.
//!
//! Every state and every student is a checkpoint directory of its own, `state-STEP` and `best-STEP`, in f32: it appears whole or not
//! at all, and the one before it goes when it is there. A kill at any moment leaves one to go on from.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use slmc_checkpoint::{
    Checkpoint, CheckpointPlan, CheckpointWriter, Dtype, ExistingTarget, TensorSpec, WriteError,
};
use slmc_model::{MemorySource, ModelError};

use crate::adamw::{AdamW, Moments};
use crate::error::DistillError;
use crate::parameter::{Parameter, Values};
use crate::progress::{Progress, Record};
use crate::settings::TrainSettings;
use crate::setup::State;
use crate::trainer::Trainer;

const STATE: &str = "state-";
const BEST: &str = "best-";
const METRICS: &str = "metrics.jsonl";

/// What stands before the names of the optimizer's running means.
const MEANS: [&str; 2] = ["first.", "second."];

/// What a projection of hidden states is called.
const PROJECTION: &str = "projection";

/// The field of a state's `config.json` that says where the run is.
const PROGRESS: &str = "slmc_progress";
/// The field that says what run it is.
const RUN: &str = "slmc_run";

/// A tensor to be kept.
struct Part<'a> {
    name: String,
    shape: Vec<usize>,
    values: &'a [f32],
}

/// A work directory.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
    /// The student's `config.json`.
    config: Value,
    /// What the run depends on, to be found again in its states.
    run: Value,
}

impl Store {
    /// A store in `directory`, which is made if it is not there.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn new(directory: &Path, config: Value, run: Value) -> Result<Self, DistillError> {
        fs::create_dir_all(directory).map_err(io(directory))?;
        Ok(Self { directory: directory.to_path_buf(), config, run })
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Keeps all that is needed to go on, and lets go of what is older.
    ///
    /// # Errors
    /// The file system; a weight that is not finite.
    pub fn save(&self, trainer: &Trainer<'_>) -> Result<(), DistillError> {
        let progress = trainer.progress();
        let moments = trainer.optimizer().moments();
        let mut parts = named(trainer.weights())?;
        for Values { parameter, name, shape, .. } in Parameter::all(trainer.weights())? {
            let Some(Moments { first, second }) = moments.get(&parameter) else { continue };
            for (mean, values) in MEANS.iter().zip([first, second]) {
                parts.push(Part { name: format!("{mean}{name}"), shape: shape.clone(), values });
            }
        }
        if let Some((values, width)) = trainer.projection() {
            let shape = vec![width, values.len() / width];
            if let Some(Moments { first, second }) = moments.get(&Parameter::Projection) {
                for (mean, values) in MEANS.iter().zip([first, second]) {
                    parts.push(Part { name: format!("{mean}{PROJECTION}"), shape: shape.clone(), values });
                }
            }
            parts.push(Part { name: PROJECTION.into(), shape, values });
        }
        let mut config = self.config.clone();
        config[PROGRESS] = json!(progress);
        config[RUN] = self.run.clone();
        let kept = self.path(STATE, progress.step);
        self.write(&kept, parts, &config)?;
        self.remove_others(STATE, Some(progress.step))?;
        self.remove_others(BEST, progress.best.map(|best| best.step))
    }

    /// Keeps the student that is the best so far.
    ///
    /// # Errors
    /// As [`Store::save`].
    pub fn save_best(&self, trainer: &Trainer<'_>) -> Result<(), DistillError> {
        let path = self.path(BEST, trainer.progress().step);
        self.write(&path, named(trainer.weights())?, &self.config)
    }

    /// The steps that were done by a run that was begun here, and what it depends on; `None` if none was.
    ///
    /// # Errors
    /// A state that is damaged.
    pub fn begun(directory: &Path) -> Result<Option<(u64, Value)>, DistillError> {
        let Some(step) = steps(directory, STATE)?.pop() else { return Ok(None) };
        let state = Checkpoint::open(&directory.join(format!("{STATE}{step}")))?;
        Ok(Some((step, state.config_json().get(RUN).cloned().unwrap_or_default())))
    }

    /// The last state that was kept of a student that began as `fresh`, or its beginning. Metrics of steps after it are taken out of the
    /// file.
    ///
    /// # Errors
    /// A state that is damaged.
    pub fn load(&self, fresh: MemorySource, settings: &TrainSettings) -> Result<State, DistillError> {
        let Some(step) = steps(&self.directory, STATE)?.pop() else {
            // A run that was killed before it kept anything begins anew, and so do its metrics.
            self.keep_metrics(None)?;
            return Ok(State::new(fresh, settings));
        };
        let path = self.path(STATE, step);
        let state = Checkpoint::open(&path)?;
        let progress = state.config_json().get(PROGRESS).cloned().unwrap_or_default();
        let progress: Progress = serde_json::from_value(progress).map_err(|error| DistillError::State {
            path: path.join("config.json"),
            reason: format!("{PROGRESS}: {error}"),
        })?;
        let mut moments = BTreeMap::new();
        let names =
            Parameter::all(&fresh)?.into_iter().map(|Values { parameter, name, .. }| (parameter, name));
        for (parameter, name) in names.chain([(Parameter::Projection, PROJECTION.to_owned())]) {
            let [first, second] = MEANS.map(|mean| format!("{mean}{name}"));
            if state.tensor(&first).is_some() {
                let [mut means, mut squares] = [Vec::new(), Vec::new()];
                state.read_f32(&first, &mut means)?;
                state.read_f32(&second, &mut squares)?;
                moments.insert(parameter, Moments { first: means, second: squares });
            }
        }
        self.keep_metrics(Some(progress.step))?;
        let optimizer = AdamW::resumed(settings.optimizer, progress.updates, moments);
        let projection = match state.tensor(PROJECTION) {
            Some(_) => {
                let mut values = Vec::new();
                state.read_f32(PROJECTION, &mut values)?;
                Some(values)
            }
            None => None,
        };
        Ok(State { weights: read(&state, fresh)?, optimizer, progress, projection })
    }

    /// The best state of a student so far.
    ///
    /// # Errors
    /// There is none, or it is damaged.
    pub fn load_best(
        &self,
        student: MemorySource,
        progress: &Progress,
    ) -> Result<MemorySource, DistillError> {
        let step = progress.best.map_or(0, |best| best.step);
        read(&Checkpoint::open(&self.path(BEST, step))?, student)
    }

    /// Adds a line to the metrics.
    ///
    /// # Errors
    /// The file system.
    pub fn record(&self, record: &Record) -> Result<(), DistillError> {
        let path = self.directory.join(METRICS);
        let line = format!("{}\n", json!(record));
        let file = OpenOptions::new().create(true).append(true).open(&path);
        Ok(file.and_then(|mut file| file.write_all(line.as_bytes())).map_err(io(&path))?)
    }

    /// The metrics so far, a JSON object a line.
    ///
    /// # Errors
    /// The file system.
    pub fn metrics(&self) -> Result<String, DistillError> {
        let path = self.directory.join(METRICS);
        match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
            text => Ok(text.map_err(io(&path))?),
        }
    }

    /// Removes the directory.
    ///
    /// # Errors
    /// The file system.
    pub fn remove(self) -> Result<(), DistillError> {
        Ok(fs::remove_dir_all(&self.directory).map_err(io(&self.directory))?)
    }

    fn path(&self, kind: &str, step: u64) -> PathBuf {
        self.directory.join(format!("{kind}{step}"))
    }

    fn write(&self, target: &Path, parts: Vec<Part<'_>>, config: &Value) -> Result<(), DistillError> {
        let spec = |part: &Part<'_>| TensorSpec {
            name: part.name.clone(),
            dtype: Dtype::F32,
            shape: part.shape.clone(),
        };
        let plan =
            CheckpointPlan::new(parts.iter().map(spec).collect(), CheckpointPlan::DEFAULT_SHARD_BYTES)?;
        // A state of the same step is there where a run was killed between two of its files.
        let mut writer =
            CheckpointWriter::create_in(Some(&self.directory), target, plan, ExistingTarget::Replace)?;
        for Part { name, values, .. } in parts {
            writer.write_f32(&name, values)?;
        }
        writer.write_config(config)?;
        Ok(writer.finish()?)
    }

    fn remove_others(&self, kind: &str, kept: Option<u64>) -> Result<(), DistillError> {
        for step in steps(&self.directory, kind)? {
            if Some(step) != kept {
                let path = self.path(kind, step);
                fs::remove_dir_all(&path).map_err(io(&path))?;
            }
        }
        Ok(())
    }

    /// Leaves the metrics up to `step`, or none.
    fn keep_metrics(&self, step: Option<u64>) -> Result<(), DistillError> {
        let before = |line: &&str| {
            let line: Option<Value> = serde_json::from_str(line).ok();
            line.and_then(|line| line["step"].as_u64()).is_some_and(|found| Some(found) <= step)
        };
        let kept: String = self.metrics()?.lines().filter(before).map(|line| format!("{line}\n")).collect();
        let path = self.directory.join(METRICS);
        Ok(fs::write(&path, kept).map_err(io(&path))?)
    }
}

/// The steps of which there is something of this kind, in order.
fn steps(directory: &Path, kind: &str) -> Result<Vec<u64>, DistillError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io(directory))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(io(directory))?.file_name();
        found.extend(name.to_str().and_then(|name| name.strip_prefix(kind)?.parse::<u64>().ok()));
    }
    found.sort_unstable();
    Ok(found)
}

/// Everything that is trained, with its name and shape.
fn named(weights: &MemorySource) -> Result<Vec<Part<'_>>, ModelError> {
    let all = Parameter::all(weights)?.into_iter();
    Ok(all.map(|Values { name, shape, values, .. }| Part { name, shape, values }).collect())
}

/// The student as it was kept; what is not trained stays as it is.
fn read(checkpoint: &Checkpoint, mut student: MemorySource) -> Result<MemorySource, DistillError> {
    let names: BTreeMap<Parameter, String> = Parameter::all(&student)?
        .into_iter()
        .map(|Values { parameter, name, .. }| (parameter, name))
        .collect();
    for (parameter, values) in Parameter::all_mut(&mut student) {
        let expected = values.len();
        checkpoint.read_f32(&names[&parameter], values)?;
        if values.len() != expected {
            let (path, name) = (checkpoint.dir().to_path_buf(), &names[&parameter]);
            let reason = format!("{name} has {} values, but the student has {expected}", values.len());
            return Err(DistillError::State { path, reason });
        }
    }
    Ok(student)
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> WriteError {
    let path = path.to_path_buf();
    move |source| WriteError::Io { path, source }
}
