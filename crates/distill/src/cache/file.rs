//! The file: a line that says what it is, a line of JSON, then a record for every sequence.
//!
//! A record is `[positions, k]` token ids, `[positions, k]` logarithms of probabilities, `[positions]` of the probability of all other tokens,
//! and of windows `[positions]` of that of the token that comes: little-endian u32 and f32. Records have one size, so that what a killed
//! writer left is known from the file's length.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::CachedRows;
use crate::error::DistillError;

/// More than any header has: a file without a line end is not read whole.
const MOST_HEADER: u64 = 1 << 20;

/// What the records of a file are of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Records {
    /// A training run's sequences, every position of them.
    #[default]
    Sequences,
    /// Windows side by side of a text to evaluate on: the positions of their second halves, which are scored.
    Windows,
}

/// What a file of predictions is of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CacheHeader {
    /// What a record is of.
    #[serde(default)]
    pub records: Records,
    /// Tokens kept of each position.
    pub k: usize,
    /// What logits were divided by.
    pub temperature: f32,
    /// Entries of the vocabulary that the probabilities are over.
    pub vocab: usize,
    /// Tokens of a sequence or window.
    pub seq_len: usize,
    /// Sequences, those to judge by last, or windows.
    pub sequences: usize,
    /// SHA-256 of the tokenizer's tokens.
    pub tokenizer_sha256: String,
    /// SHA-256 of the sequences, or of the token ids of the text that windows are cut from.
    pub data_sha256: String,
    /// The teacher, as it was named.
    pub teacher: String,
}

impl CacheHeader {
    /// Positions of a sequence or window that a record is of.
    pub fn positions(&self) -> usize {
        match self.records {
            Records::Sequences => self.seq_len,
            Records::Windows => (self.seq_len - self.seq_len / 2).saturating_sub(1),
        }
    }

    fn record_bytes(&self) -> u64 {
        let labels = u64::from(self.records == Records::Windows);
        4 * self.positions() as u64 * (2 * self.k as u64 + 1 + labels)
    }

    fn text(&self) -> String {
        format!("{}{}\n", LogitCache::MAGIC, serde_json::json!(self))
    }
}

/// A file that was written whole.
#[derive(Debug)]
pub struct LogitCache {
    header: CacheHeader,
    path: PathBuf,
    file: Mutex<File>,
    begin: u64,
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> DistillError {
    move |error| damaged(path, error.to_string())
}

fn damaged(path: &Path, reason: impl Into<String>) -> DistillError {
    DistillError::State { path: path.to_path_buf(), reason: reason.into() }
}

/// Reads what stands in front of the records, and how long it is.
fn read_header(path: &Path) -> Result<(CacheHeader, u64, File), DistillError> {
    let file = File::open(path).map_err(io(path))?;
    let mut lines = BufReader::new((&file).take(MOST_HEADER));
    let (mut magic, mut json) = (Vec::new(), Vec::new());
    lines.read_until(b'\n', &mut magic).and_then(|_| lines.read_until(b'\n', &mut json)).map_err(io(path))?;
    if magic != LogitCache::MAGIC.as_bytes() {
        return Err(damaged(path, "no teacher's predictions, as `slmc distill cache-logits` writes them"));
    }
    let header: CacheHeader =
        serde_json::from_slice(&json).map_err(|error| damaged(path, format!("its header: {error}")))?;
    let sizes = [header.k, header.vocab, header.seq_len, header.sequences, header.positions()];
    if sizes.iter().any(|&size| size == 0 || size > u32::MAX as usize) || header.k > header.vocab {
        return Err(damaged(path, "its header has sizes that cannot be"));
    }
    Ok((header, (magic.len() + json.len()) as u64, file))
}

impl LogitCache {
    /// What a file begins with.
    pub const MAGIC: &str = "slmc teacher logits 1\n";

    /// Opens a file.
    ///
    /// # Errors
    /// It cannot be read, is something else, or is not whole.
    pub fn open(path: &Path) -> Result<Self, DistillError> {
        let (header, begin, file) = read_header(path)?;
        let found = file.metadata().map_err(io(path))?.len();
        let records = u128::from(header.record_bytes()) * header.sequences as u128;
        if u128::from(found) != records + u128::from(begin) {
            let expected = records + u128::from(begin);
            return Err(damaged(path, format!("{found} bytes, but {expected} are expected by its header")));
        }
        Ok(Self { header, path: path.to_path_buf(), file: Mutex::new(file), begin })
    }

    /// What it is of.
    pub fn header(&self) -> &CacheHeader {
        &self.header
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The predictions for some sequences, one after another.
    ///
    /// # Errors
    /// Records that cannot be read, or hold what is no prediction.
    pub fn read(&self, sequences: &[usize]) -> Result<CachedRows, DistillError> {
        let (record, mut all) = (self.header.record_bytes(), CachedRows::default());
        let mut bytes = vec![0; record as usize];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        for &sequence in sequences {
            let at = SeekFrom::Start(self.begin + sequence as u64 * record);
            file.seek(at).and_then(|_| file.read_exact(&mut bytes)).map_err(io(&self.path))?;
            all.extend(self.decode(&bytes, sequence)?);
        }
        Ok(all)
    }

    fn decode(&self, bytes: &[u8], sequence: usize) -> Result<CachedRows, DistillError> {
        let (CacheHeader { k, vocab, .. }, positions) = (&self.header, self.header.positions());
        let words: Vec<u32> = bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
        let (ids, rest) = words.split_at(positions * k);
        let (log_probs, rest) = rest.split_at(positions * k);
        let (log_rest, log_labels) = rest.split_at(positions);
        let floats = |words: &[u32]| words.iter().map(|word| f32::from_bits(*word)).collect::<Vec<_>>();
        let rows = CachedRows {
            k: *k,
            ids: ids.to_vec(),
            log_probs: floats(log_probs),
            log_rest: floats(log_rest),
            log_labels: floats(log_labels),
        };
        let possible = rows.ids.iter().all(|id| (*id as usize) < *vocab)
            && rows.log_probs.iter().chain(&rows.log_labels).all(|log| log.is_finite() && *log <= 0.0)
            && rows.log_rest.iter().all(|log| *log <= 1e-6);
        match possible {
            true => Ok(rows),
            false => Err(damaged(&self.path, format!("record {sequence} holds what is no prediction"))),
        }
    }
}

/// A file in the making, beside its place.
#[derive(Debug)]
pub struct CacheWriter {
    header: CacheHeader,
    partial: PathBuf,
    file: File,
    done: usize,
}

impl CacheWriter {
    /// Where a file is while it is made.
    pub fn partial(target: &Path) -> PathBuf {
        let mut path = target.as_os_str().to_owned();
        path.push(".partial");
        path.into()
    }

    /// Begins a file, or goes on where a writer of the same header was stopped, if `resume` allows that.
    ///
    /// # Errors
    /// The file system; one that was begun and is not to be gone on with, or is of something else.
    pub fn begin(target: &Path, header: CacheHeader, resume: bool) -> Result<Self, DistillError> {
        let partial = Self::partial(target);
        let text = header.text();
        let begun = match std::fs::metadata(&partial) {
            Ok(metadata) => metadata.len() >= text.len() as u64,
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => return Err(io(&partial)(error)),
        };
        let options =
            |options: &mut OpenOptions| options.read(true).write(true).open(&partial).map_err(io(&partial));
        if !begun {
            let mut file = options(OpenOptions::new().create(true).truncate(true))?;
            file.write_all(text.as_bytes()).map_err(io(&partial))?;
            return Ok(Self { header, partial, file, done: 0 });
        }
        if !resume {
            let reason = "an unfinished file; continue it with --resume, or delete it to start again";
            return Err(damaged(&partial, reason));
        }
        let (found, begin, _) = read_header(&partial)?;
        if found != header {
            let reason = "it was begun with another teacher, text or settings; delete it to start again";
            return Err(damaged(&partial, reason));
        }
        let mut file = options(&mut OpenOptions::new())?;
        let records = (file.metadata().map_err(io(&partial))?.len() - begin) / header.record_bytes();
        let done = (records as usize).min(header.sequences);
        let end = begin + done as u64 * header.record_bytes();
        file.set_len(end).and_then(|()| file.seek(SeekFrom::Start(end))).map_err(io(&partial))?;
        Ok(Self { header, partial, file, done })
    }

    /// Sequences that are written.
    pub fn done(&self) -> usize {
        self.done
    }

    /// Writes the next sequences.
    ///
    /// # Errors
    /// The file system; predictions that are not finite.
    pub fn push(&mut self, rows: &CachedRows) -> Result<(), DistillError> {
        let (k, positions) = (self.header.k, self.header.positions());
        if let Some(at) = rows.log_probs.iter().position(|log| !log.is_finite()) {
            let position = at / k;
            return Err(damaged(&self.partial, format!("the teacher's prediction {position} is not finite")));
        }
        for n in 0..rows.positions() / positions {
            let rest = n * positions..(n + 1) * positions;
            let top = rest.start * k..rest.end * k;
            let mut bytes = Vec::with_capacity(self.header.record_bytes() as usize);
            rows.ids[top.clone()].iter().for_each(|id| bytes.extend(id.to_le_bytes()));
            rows.log_probs[top].iter().for_each(|log| bytes.extend(log.to_le_bytes()));
            rows.log_rest[rest.clone()].iter().for_each(|log| bytes.extend(log.to_le_bytes()));
            rows.log_labels
                .iter()
                .skip(rest.start)
                .take(rest.len())
                .for_each(|log| bytes.extend(log.to_le_bytes()));
            self.file.write_all(&bytes).map_err(io(&self.partial))?;
            self.done += 1;
        }
        Ok(())
    }

    /// Moves the file to its place.
    ///
    /// # Errors
    /// The file system.
    pub fn finish(self, target: &Path) -> Result<(), DistillError> {
        self.file.sync_all().and_then(|()| std::fs::rename(&self.partial, target)).map_err(io(&self.partial))
    }
}
