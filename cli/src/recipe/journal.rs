//! What a run has finished, noted in its work directory.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use slmc_pipeline::work::{Fingerprint, Work};
use slmc_report::file::write_whole;

use super::Step;
use crate::failure::Failure;

const FILE: &str = "journal.json";
const LOCK: &str = "lock";

/// Version of the file.
const FORMAT: u32 = 1;

/// Options that name what is written, or what a command holds against its own inputs itself.
const WRITTEN: [&str; 7] = ["output", "report", "junit", "markdown", "save-baseline", "scores", "vectors"];

/// The steps of a run as they were done.
#[derive(Debug, Serialize, Deserialize)]
struct Notes {
    slmc_run: u32,
    /// Finished, in order.
    steps: Vec<Done>,
    /// Begun, and perhaps not finished.
    begun: Option<Begun>,
}

/// A step that is finished.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Done {
    pub name: String,
    inputs: Fingerprint,
    outputs: Fingerprint,
    pub seconds: f64,
    /// The command's JSON, where it was asked for.
    pub result: Option<serde_json::Value>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Begun {
    name: String,
    inputs: Fingerprint,
}

/// The journal of a work directory in use. One process may use it at a time.
pub struct Journal {
    directory: PathBuf,
    notes: Notes,
    _lock: File,
}

impl Journal {
    /// Opens the work directory, or makes it.
    pub fn open(directory: &Path) -> Result<Self, Failure> {
        let failed = |reason: String| Failure::failed(format!("{}: {reason}", directory.display()));
        let io = |error: std::io::Error| failed(error.to_string());
        std::fs::create_dir_all(directory).map_err(io)?;
        let path = directory.join(FILE);
        let notes = match std::fs::read(&path) {
            Ok(bytes) => {
                let notes: Notes = serde_json::from_slice(&bytes).map_err(|error| {
                    failed(format!("{FILE} is damaged ({error}); remove the directory to begin anew"))
                })?;
                if notes.slmc_run != FORMAT {
                    return Err(failed(
                        "another version of slmc made it; name another with --work, or remove it".into(),
                    ));
                }
                notes
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let foreign = std::fs::read_dir(directory)
                    .map_err(io)?
                    .flatten()
                    .any(|entry| entry.file_name() != LOCK);
                if foreign {
                    return Err(failed(
                        "holds files of something else; name another work directory with --work".into(),
                    ));
                }
                Notes { slmc_run: FORMAT, steps: Vec::new(), begun: None }
            }
            Err(error) => return Err(io(error)),
        };
        let lock = File::create(directory.join(LOCK)).map_err(io)?;
        if let Err(std::fs::TryLockError::WouldBlock) = lock.try_lock() {
            return Err(failed("another run uses it".into()));
        }
        Ok(Self { directory: directory.to_owned(), notes, _lock: lock })
    }

    /// What an earlier run noted of the `n`-th step, if nothing it depends on has changed since.
    pub fn finished(&self, n: usize, step: &Step, settings: &Fingerprint) -> Option<&Done> {
        let done = self.notes.steps.get(n).filter(|done| done.name == step.name)?;
        let same = inputs(step, settings).is_ok_and(|now| now == done.inputs)
            && outputs(step).is_ok_and(|now| now == done.outputs);
        same.then_some(done)
    }

    /// Notes that the `n`-th step begins. True if the same step was begun before and can go on with --resume, where `goes_on` allows
    /// that; what was left unfinished otherwise is removed.
    pub fn begin(
        &mut self,
        n: usize,
        step: &Step,
        settings: &Fingerprint,
        goes_on: bool,
    ) -> Result<bool, Failure> {
        let failed =
            |error: std::io::Error| Failure::failed(format!("{}: {error}", self.directory.display()));
        let now = inputs(step, settings).map_err(failed)?;
        let same =
            self.notes.begun.as_ref().is_some_and(|begun| begun.name == step.name && begun.inputs == now);
        let left = step.output.as_deref().map(Work::path).filter(|path| path.is_dir());
        let mut resumes = false;
        if let Some(left) = left {
            resumes = goes_on && same && step.resumes && left.join("journal").is_file();
            if !resumes && left.starts_with(&self.directory) {
                std::fs::remove_dir_all(&left).map_err(failed)?;
            }
        }
        self.notes.steps.truncate(n);
        self.notes.begun = Some(Begun { name: step.name.clone(), inputs: now });
        self.write()?;
        Ok(resumes)
    }

    /// Notes that the last step begun is finished.
    pub fn finish(
        &mut self,
        step: &Step,
        settings: &Fingerprint,
        seconds: f64,
        result: Option<serde_json::Value>,
    ) -> Result<(), Failure> {
        let failed =
            |error: std::io::Error| Failure::failed(format!("{}: {error}", self.directory.display()));
        let (inputs, outputs) = (inputs(step, settings).map_err(failed)?, outputs(step).map_err(failed)?);
        self.notes.steps.push(Done { name: step.name.clone(), inputs, outputs, seconds, result });
        self.notes.begun = None;
        self.write()
    }

    fn write(&self) -> Result<(), Failure> {
        let path = self.directory.join(FILE);
        let text = serde_json::to_vec_pretty(&self.notes)
            .map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
        write_whole(&path, &text).map_err(|error| Failure::failed(format!("{}: {error}", path.display())))
    }
}

/// What a step's result depends on: the version, its command line, the settings, and every file or directory that it names.
fn inputs(step: &Step, settings: &Fingerprint) -> std::io::Result<Fingerprint> {
    let mut inputs = settings.clone();
    inputs.value("the command", step.typed());
    let written = |argument: &str| WRITTEN.iter().any(|option| argument.starts_with(&format!("--{option}=")));
    let output = step.output.as_ref().map(|path| path.display().to_string());
    for argument in step.arguments.iter().skip(1).filter(|argument| !written(argument)) {
        let value = argument
            .strip_prefix("--")
            .and_then(|rest| rest.split_once('='))
            .map_or(argument.as_str(), |(_, v)| v);
        // lists of files stand behind one option, too
        for value in value.split(',').filter(|value| Some(*value) != output.as_deref()) {
            if Path::new(value).exists() {
                inputs.path(Path::new(value))?;
            }
        }
    }
    Ok(inputs)
}

/// What a step wrote for later ones.
fn outputs(step: &Step) -> std::io::Result<Fingerprint> {
    let mut outputs = Fingerprint::default();
    if let Some(output) = &step.output {
        outputs.path(output)?;
    }
    Ok(outputs)
}
