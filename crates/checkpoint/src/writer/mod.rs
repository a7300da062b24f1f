//! Writing a checkpoint directory, whole or not at all.

mod coverage;
mod plan;
mod target;

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;
use thiserror::Error;

pub use plan::{CheckpointPlan, TensorSpec};
pub use target::{ExistingTarget, check_target};

use crate::side_files::{ADDITIONAL_CHAT_TEMPLATES, SIDE_FILES, named_templates};
use crate::{Checkpoint, convert};
use coverage::Coverage;
use target::Staging;

/// What can go wrong when a checkpoint is written.
#[derive(Debug, Error)]
#[allow(missing_docs)] // the messages say it
pub enum WriteError {
    #[error("{path}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{path} exists and is not a directory")]
    TargetIsNoDirectory { path: PathBuf },
    #[error("{path} exists and is not empty; choose another output or ask for it to be replaced")]
    TargetNotEmpty { path: PathBuf },
    #[error("{path} holds {found}, which is no part of a checkpoint; it is not replaced")]
    TargetHoldsOtherFiles { path: PathBuf, found: String },
    #[error("a checkpoint without tensors")]
    NoTensors,
    #[error("tensor name {tensor} is given twice or reserved")]
    BadName { tensor: String },
    #[error("tensor {tensor} has shape {shape:?}, whose size overflows")]
    ShapeOverflow { tensor: String, shape: Vec<usize> },
    #[error("tensor {tensor} is not in the plan")]
    NotPlanned { tensor: String },
    #[error("tensor {tensor}: {found} values from value {first} on, but it has {expected}")]
    OutOfRange { tensor: String, first: usize, found: usize, expected: usize },
    #[error("tensor {tensor}: values {first} and on are written twice")]
    WrittenTwice { tensor: String, first: usize },
    #[error("tensor {tensor} is planned as {found}, which holds no weights")]
    NotFloat { tensor: String, found: crate::Dtype },
    #[error("tensor {tensor}: {value} at index {index} is not finite, or not in its dtype")]
    NonFinite { tensor: String, index: usize, value: f32 },
    #[error("tensor {tensor} is incomplete: {found} of {expected} bytes written")]
    Incomplete { tensor: String, found: u64, expected: u64 },
    #[error("config.json was not written")]
    NoConfig,
    #[error("{name:?} is not the plain name of a file")]
    BadFileName { name: String },
}

/// Values converted at a time.
const CHUNK: usize = 1 << 15;

/// Writes a checkpoint beside its target and moves it there when it is complete. Dropped before
/// [`finish`](Self::finish), it leaves nothing behind.
#[derive(Debug)]
pub struct CheckpointWriter {
    staging: Staging,
    plan: CheckpointPlan,
    files: Vec<File>,
    written: Vec<Coverage>,
    has_config: bool,
    buffer: Vec<u8>,
}

impl CheckpointWriter {
    /// Begins a checkpoint that will appear at `target`. The target's parent directory must exist.
    ///
    /// # Errors
    /// A target that is a file; one that is not empty, unless `existing` allows replacing it; and then one
    /// that holds anything that is no part of a checkpoint.
    pub fn create(target: &Path, plan: CheckpointPlan, existing: ExistingTarget) -> Result<Self, WriteError> {
        Self::begin(Staging::new(target, None, existing)?, plan)
    }

    /// The same, prepared in `room` if there is one, a directory on the target's file system that belongs to this checkpoint
    /// alone: what a
    /// killed process was preparing there is removed.
    ///
    /// # Errors
    /// As [`CheckpointWriter::create`].
    pub fn create_in(
        room: Option<&Path>,
        target: &Path,
        plan: CheckpointPlan,
        existing: ExistingTarget,
    ) -> Result<Self, WriteError> {
        Self::begin(Staging::new(target, room, existing)?, plan)
    }

    fn begin(staging: Staging, plan: CheckpointPlan) -> Result<Self, WriteError> {
        let mut files = Vec::with_capacity(plan.shards.len());
        for shard in &plan.shards {
            let path = staging.dir().join(&shard.file);
            let io = |source| WriteError::Io { path: path.clone(), source };
            let mut file = File::create_new(&path).map_err(io)?;
            file.write_all(&shard.header).map_err(io)?;
            files.push(file);
        }
        let written = vec![Coverage::default(); plan.placements.len()];
        Ok(Self { staging, plan, files, written, has_config: false, buffer: Vec::new() })
    }

    /// Writes a whole tensor from f32 values, rounded to its dtype.
    pub fn write_f32(&mut self, name: &str, values: &[f32]) -> Result<(), WriteError> {
        let expected = self.elements(name)?;
        if values.len() != expected {
            return Err(WriteError::OutOfRange {
                tensor: name.to_owned(),
                first: 0,
                found: values.len(),
                expected,
            });
        }
        self.write_values_f32(name, 0, values)
    }

    /// Writes a part of a tensor, from flat index `first` on, in any order of parts; each value once.
    ///
    /// # Errors
    /// A tensor that is not planned; values beyond its end or written before; a value that is not finite or
    /// overflows the dtype.
    pub fn write_values_f32(&mut self, name: &str, first: usize, values: &[f32]) -> Result<(), WriteError> {
        let n = self.planned(name)?;
        let dtype = self.plan.placements[n].spec.dtype;
        if !dtype.is_float() {
            return Err(WriteError::NotFloat { tensor: name.to_owned(), found: dtype });
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut result = Ok(());
        for (chunk, values) in values.chunks(CHUNK).enumerate() {
            let start = first.saturating_add(chunk * CHUNK);
            buffer.resize(values.len() * dtype.bytes(), 0);
            result = convert::from_f32(dtype, values, &mut buffer)
                .map_err(|found| WriteError::NonFinite {
                    tensor: name.to_owned(),
                    index: start + found.index,
                    value: found.value,
                })
                .and_then(|()| self.write_part(n, start, &buffer));
            if result.is_err() {
                break;
            }
        }
        self.buffer = buffer;
        result
    }

    /// Writes a part of a tensor, from flat index `first` on, from bytes that are already in its dtype,
    /// little-endian, in any order of parts; each element once.
    ///
    /// # Errors
    /// A tensor that is not planned; no whole elements; elements beyond its end or written before.
    pub fn write_elements(&mut self, name: &str, first: usize, bytes: &[u8]) -> Result<(), WriteError> {
        let n = self.planned(name)?;
        let placement = &self.plan.placements[n];
        let size = placement.spec.dtype.bytes();
        if !bytes.len().is_multiple_of(size) {
            let (found, expected) = (bytes.len() as u64, bytes.len().next_multiple_of(size) as u64);
            return Err(WriteError::Incomplete { tensor: name.to_owned(), found, expected });
        }
        self.write_part(n, first, bytes)
    }

    /// Writes a whole tensor from bytes that are already in its dtype, little-endian. They are taken as they
    /// are, also if they hold NaN.
    pub fn write_bytes(&mut self, name: &str, bytes: &[u8]) -> Result<(), WriteError> {
        let n = self.planned(name)?;
        let placement = &self.plan.placements[n];
        let size = placement.spec.dtype.bytes();
        if bytes.len() as u64 != placement.bytes {
            return Err(WriteError::OutOfRange {
                tensor: name.to_owned(),
                first: 0,
                found: bytes.len() / size,
                expected: (placement.bytes / size as u64) as usize,
            });
        }
        self.write_part(n, 0, bytes)
    }

    /// Writes `config.json`, of adapters `adapter_config.json`.
    pub fn write_config(&mut self, config: &Value) -> Result<(), WriteError> {
        self.write_json(self.plan.config_file, config)?;
        self.has_config = true;
        Ok(())
    }

    /// Writes another JSON file, in place of a copied one if there is one.
    pub fn write_json(&mut self, file: &str, value: &Value) -> Result<(), WriteError> {
        let mut text = format!("{value:#}");
        text.push('\n');
        self.write_file(file, text.as_bytes())
    }

    /// Writes another file, in place of a copied one if there is one.
    pub fn write_file(&mut self, file: &str, contents: &[u8]) -> Result<(), WriteError> {
        if !crate::index::is_plain_file_name(file) || file.ends_with(".safetensors") {
            return Err(WriteError::BadFileName { name: file.to_owned() });
        }
        let path = self.staging.dir().join(file);
        let io = |source| WriteError::Io { path: path.clone(), source };
        let mut out = File::create(&path).map_err(io)?;
        out.write_all(contents).map_err(io)?;
        out.sync_all().map_err(io)
    }

    /// Copies the tokenizer's files, the generation settings and the chat template of another checkpoint, as
    /// far as it has them.
    pub fn copy_side_files(&mut self, from: &Checkpoint) -> Result<(), WriteError> {
        for file in SIDE_FILES {
            let path = from.dir().join(file);
            match std::fs::read(&path) {
                Ok(contents) => self.write_file(file, &contents)?,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(WriteError::Io { path, source }),
            }
        }
        let templates = from.dir().join(ADDITIONAL_CHAT_TEMPLATES);
        let io = |source| WriteError::Io { path: templates.clone(), source };
        let files = named_templates(&templates).map_err(io)?;
        if !files.is_empty() {
            let dir = self.staging.dir().join(ADDITIONAL_CHAT_TEMPLATES);
            std::fs::create_dir(&dir).map_err(io)?;
            for file in files {
                std::fs::copy(&file, dir.join(file.file_name().unwrap_or_default())).map_err(io)?;
            }
        }
        Ok(())
    }

    /// Checks that everything planned is there, syncs it and moves it to the target.
    ///
    /// # Errors
    /// A tensor that is not complete; no `config.json`; anything the file system refuses. Nothing is at the
    /// target then that was not there before.
    pub fn finish(self) -> Result<(), WriteError> {
        for (placement, written) in self.plan.placements.iter().zip(&self.written) {
            if written.bytes() != placement.bytes {
                return Err(WriteError::Incomplete {
                    tensor: placement.spec.name.clone(),
                    found: written.bytes(),
                    expected: placement.bytes,
                });
            }
        }
        if !self.has_config {
            return Err(WriteError::NoConfig);
        }
        for (file, shard) in self.files.iter().zip(&self.plan.shards) {
            file.sync_all()
                .map_err(|source| WriteError::Io { path: self.staging.dir().join(&shard.file), source })?;
        }
        drop(self.files);
        if let Some((file, index)) = self.plan.index() {
            let path = self.staging.dir().join(file);
            let io = |source| WriteError::Io { path: path.clone(), source };
            let mut out = File::create_new(&path).map_err(io)?;
            out.write_all(format!("{index:#}\n").as_bytes()).map_err(io)?;
            out.sync_all().map_err(io)?;
        }
        self.staging.publish()
    }

    fn planned(&self, name: &str) -> Result<usize, WriteError> {
        let n = self.plan.by_name.get(name).copied();
        n.ok_or_else(|| WriteError::NotPlanned { tensor: name.to_owned() })
    }

    fn elements(&self, name: &str) -> Result<usize, WriteError> {
        Ok(self.plan.placements[self.planned(name)?].spec.shape.iter().product())
    }

    /// Writes bytes of a tensor from element `first` on.
    fn write_part(&mut self, n: usize, first: usize, bytes: &[u8]) -> Result<(), WriteError> {
        let placement = &self.plan.placements[n];
        let size = placement.spec.dtype.bytes();
        let begin = (first as u64).saturating_mul(size as u64);
        let end = begin.saturating_add(bytes.len() as u64);
        if end > placement.bytes {
            return Err(WriteError::OutOfRange {
                tensor: placement.spec.name.clone(),
                first,
                found: bytes.len() / size,
                expected: (placement.bytes / size as u64) as usize,
            });
        }
        if !self.written[n].add(begin..end) {
            return Err(WriteError::WrittenTwice { tensor: placement.spec.name.clone(), first });
        }
        let shard = &self.plan.shards[placement.shard];
        let io = |source| WriteError::Io { path: self.staging.dir().join(&shard.file), source };
        let file = &mut self.files[placement.shard];
        file.seek(SeekFrom::Start(shard.header.len() as u64 + placement.begin + begin)).map_err(io)?;
        file.write_all(bytes).map_err(io)
    }
}
