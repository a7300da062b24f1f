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
use slmc_model::{MemorySource, ModelConfig, ModelError, TensorId, WeightSource};

use crate::adamw::{AdamW, Moments};
use crate::error::DistillError;
use crate::progress::{Progress, Record};
use crate::settings::TrainSettings;
use crate::trainer::{State, Trainer};

const STATE: &str = "state-";
const BEST: &str = "best-";
const METRICS: &str = "metrics.jsonl";

/// What stands before the names of the optimizer's running means.
const MEANS: [&str; 2] = ["first.", "second."];

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
        for (&id, Moments { first, second }) in moments {
            let name = hf_name(trainer.weights().config(), id)?;
            let shape = trainer.weights().config().shape(id.role);
            for (mean, values) in MEANS.iter().zip([first, second]) {
                parts.push(Part { name: format!("{mean}{name}"), shape: shape.clone(), values });
            }
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

    /// The last state that was kept; `None` if there is none. Metrics of steps after it are taken out of the file.
    ///
    /// # Errors
    /// A state that is damaged.
    pub fn load(&self, model: &ModelConfig, settings: &TrainSettings) -> Result<Option<State>, DistillError> {
        let Some(step) = steps(&self.directory, STATE)?.pop() else { return Ok(None) };
        let path = self.path(STATE, step);
        let state = Checkpoint::open(&path)?;
        let progress = state.config_json().get(PROGRESS).cloned().unwrap_or_default();
        let progress: Progress = serde_json::from_value(progress).map_err(|error| DistillError::State {
            path: path.join("config.json"),
            reason: format!("{PROGRESS}: {error}"),
        })?;
        let weights = weights(&state, model, "")?;
        let mut moments = BTreeMap::new();
        for id in model.tensors() {
            let name = format!("{}{}", MEANS[0], hf_name(model, id)?);
            if state.tensor(&name).is_some() {
                let [first, second] = MEANS.map(|mean| read(&state, model, mean, id));
                moments.insert(id, Moments { first: first?, second: second? });
            }
        }
        self.keep_metrics(progress.step)?;
        let optimizer = AdamW::resumed(settings.optimizer, progress.updates, moments);
        Ok(Some(State { weights, optimizer, progress }))
    }

    /// The best student so far.
    ///
    /// # Errors
    /// There is none, or it is damaged.
    pub fn load_best(&self, model: &ModelConfig, progress: &Progress) -> Result<MemorySource, DistillError> {
        let step = progress.best.map_or(0, |best| best.step);
        weights(&Checkpoint::open(&self.path(BEST, step))?, model, "")
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

    /// Leaves the metrics of the first `step` steps.
    fn keep_metrics(&self, step: u64) -> Result<(), DistillError> {
        let before = |line: &&str| {
            let line: Option<Value> = serde_json::from_str(line).ok();
            line.and_then(|line| line["step"].as_u64()).is_some_and(|found| found <= step)
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

/// Every weight with its name and shape.
fn named(weights: &MemorySource) -> Result<Vec<Part<'_>>, ModelError> {
    let config = weights.config();
    let part = |id: TensorId| {
        Ok(Part { name: hf_name(config, id)?, shape: config.shape(id.role), values: weights.values(id)? })
    };
    config.tensors().into_iter().map(part).collect()
}

fn hf_name(config: &ModelConfig, id: TensorId) -> Result<String, ModelError> {
    config.arch.hf_name(id).ok_or(ModelError::NoSuchTensor { id })
}

/// The tensors of a checkpoint in f32, their names behind `prefix`.
fn weights(checkpoint: &Checkpoint, model: &ModelConfig, prefix: &str) -> Result<MemorySource, DistillError> {
    Ok(MemorySource::new(model.clone(), |id| read(checkpoint, model, prefix, id))?)
}

fn read(
    checkpoint: &Checkpoint,
    model: &ModelConfig,
    prefix: &str,
    id: TensorId,
) -> Result<Vec<f32>, ModelError> {
    let mut values = Vec::new();
    checkpoint.read_f32(&format!("{prefix}{}", hf_name(model, id)?), &mut values)?;
    Ok(values)
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> WriteError {
    let path = path.to_path_buf();
    move |source| WriteError::Io { path, source }
}
