//! Files of items, and the bundled ones.

use std::convert::Infallible;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sha2::{Digest, Sha256};
use slmc_eval::tasks::{Format, Item, SMOKE, TaskFile, read};

use super::Tasks;
use crate::PipelineError;

/// What the bundled items are called.
const BUNDLED_SMOKE: &str = "bundled:smoke";

/// Said of files that are not text, mostly data sets as they are downloaded.
const NO_TEXT: &str = "this is not text; tasks are JSON lines. Of a Parquet file, pandas makes them: \
                       read_parquet(FILE).to_json(\"items.jsonl\", orient=\"records\", lines=True)";

/// Where items are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskSource {
    /// A file of JSON lines.
    File(PathBuf),
    /// The bundled items.
    Smoke,
}

impl TaskSource {
    /// The same source with a relative path taken from `directory`.
    pub fn relative_to(self, directory: &Path) -> Self {
        match self {
            Self::File(path) => Self::File(directory.join(path)),
            Self::Smoke => Self::Smoke,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::File(path) => path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
            Self::Smoke => BUNDLED_SMOKE.into(),
        }
    }
}

impl fmt::Display for TaskSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Smoke => f.write_str(BUNDLED_SMOKE),
        }
    }
}

impl FromStr for TaskSource {
    type Err = Infallible;

    /// A file called `bundled:smoke` is named as `./bundled:smoke`.
    fn from_str(name: &str) -> Result<Self, Infallible> {
        Ok(if name == BUNDLED_SMOKE { Self::Smoke } else { Self::File(name.into()) })
    }
}

/// A file that was read.
pub(super) struct Loaded {
    source: TaskSource,
    pub name: String,
    pub sha256: String,
    file: TaskFile,
    /// How many of the file's items are asked.
    count: usize,
    /// What examples are taken from.
    pub pool: Vec<Item>,
}

impl Loaded {
    pub fn format(&self) -> Format {
        self.file.format
    }

    /// The items that are asked, with their lines.
    pub fn asked(&self) -> impl Iterator<Item = (&Item, &usize)> {
        self.file.items.iter().zip(&self.file.lines).take(self.count)
    }

    /// Leaves out the items that were asked and not answered.
    ///
    /// # Panics
    /// If it is not said of each item that was asked.
    pub fn keep(&mut self, answered: &[bool]) {
        assert_eq!(answered.len(), self.count, "whether each item was answered");
        fn kept<T>(all: &mut Vec<T>, answered: &[bool]) {
            let mut answered = answered.iter();
            all.retain(|_| answered.next().copied().unwrap_or(false));
        }
        kept(&mut self.file.items, answered);
        kept(&mut self.file.lines, answered);
        self.count = self.file.items.len();
    }

    /// What is wrong with the item in a line.
    pub fn wrong(&self, line: usize, reason: &dyn fmt::Display) -> PipelineError {
        wrong(&self.source, &format!("line {line}: {reason}"))
    }
}

/// Reads every source.
///
/// # Errors
/// A file that cannot be read; the first line of one that is no item.
pub(super) fn load(tasks: &Tasks) -> Result<Vec<Loaded>, PipelineError> {
    let examples = match &tasks.fewshot_file {
        Some(path) if tasks.fewshot > 0 => Some(TaskSource::File(path.clone())),
        _ => None,
    };
    let load = |source: &TaskSource| {
        let (text, file) = parse(source, tasks.format)?;
        let pool = match &examples {
            _ if tasks.fewshot == 0 => Vec::new(),
            Some(examples) => parse(examples, Some(file.format))?.1.items,
            None => file.items.clone(),
        };
        let count = tasks.limit.unwrap_or(usize::MAX).min(file.items.len());
        let sha256 = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Loaded { source: source.clone(), name: source.name(), sha256, file, count, pool })
    };
    tasks.sources.iter().map(load).collect()
}

fn parse(source: &TaskSource, format: Option<Format>) -> Result<(String, TaskFile), PipelineError> {
    let text = match source {
        TaskSource::File(path) => std::fs::read_to_string(path).map_err(|error| match error.kind() {
            ErrorKind::InvalidData => wrong(source, &NO_TEXT),
            _ => wrong(source, &error),
        })?,
        TaskSource::Smoke => SMOKE.to_owned(),
    };
    // the bundled items have their own layout, whatever that of the files is
    let format = format.filter(|_| *source != TaskSource::Smoke);
    let file = read(&text, format).map_err(|error| wrong(source, &error))?;
    Ok((text, file))
}

fn wrong(source: &TaskSource, reason: &dyn fmt::Display) -> PipelineError {
    PipelineError::Task { task: source.to_string(), reason: reason.to_string() }
}
