//! The work directory: what a calibrated run has finished, so that a run that was killed can be resumed.
//!
//! Beside the output `OUT` stands `OUT.work` until the output is whole, with two files: `data`, to which every step appends
//! the bytes it leaves behind (encoded tensors, scales, importances), and `journal`, which gets a line when a step is
//! finished and its data are on the disk. A kill at any moment leaves a journal of finished steps, and perhaps bytes behind
//! them that nobody refers to, which the next run cuts off.
//!
//! Hidden states are not kept: they are gigabytes to write and to sync for every block, twice over, as the old ones may go
//! only when the new ones are safe. A resumed run makes them anew by running the finished blocks from their stored bytes,
//! one forward pass, which gives the same states and so the same output, byte for byte.

mod error;
mod fingerprint;
mod journal;

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use error::WorkError;
use fingerprint::hexadecimal;
pub use fingerprint::{Change, Fingerprint};
use journal::{Broken, Chain, Entry, FORMAT, Header, Journal, Piece};

const JOURNAL: &str = "journal";
const NEW_JOURNAL: &str = "journal.new";
const DATA: &str = "data";
const ROOM: &str = "output";

/// What is finished together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Scales and importances of a block.
    CalibratedBlock(usize),
    /// Those of the head.
    CalibratedHead,
    /// A block's matrices, rounded.
    RoundedBlock(usize),
    /// The head, rounded.
    RoundedHead,
}

/// A work directory in use. One process may use it at a time.
pub struct Work {
    directory: PathBuf,
    batch_tokens: usize,
    finished: HashMap<Step, Entry>,
    state: Mutex<State>,
}

/// What is being written.
struct State {
    journal: File,
    chain: Chain,
    data: File,
    /// Pieces of the step at work, the last of them perhaps unfinished.
    pieces: Vec<(Piece, Sha256)>,
    /// Where the next piece goes.
    end: u64,
    /// Steps in the journal.
    steps: usize,
}

/// A step that an earlier run finished.
pub struct Finished<'a> {
    work: &'a Work,
    entry: &'a Entry,
}

impl Work {
    /// The work directory of an output.
    pub fn path(output: &Path) -> PathBuf {
        let mut name = OsString::from(output);
        name.push(".work");
        name.into()
    }

    /// Opens the directory, or makes it. `inputs` is what the run's result depends on; `batch_tokens` counts among it, and a
    /// resumed run goes on with that of the run before: see [`Work::batch_tokens`].
    ///
    /// # Errors
    /// There is one of an unfinished run and `resume` is false; the inputs are not those of that run; it is damaged, in
    /// use, or cannot be read or written.
    pub fn open(
        directory: &Path,
        resume: bool,
        inputs: Fingerprint,
        batch_tokens: usize,
    ) -> Result<Self, WorkError> {
        match fs::create_dir(directory) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(WorkError::io(directory)(error));
            }
            _ => {}
        }
        if !directory.is_dir() || holds_something_else(directory)? {
            return Err(WorkError::Foreign { path: directory.to_owned() });
        }
        let data_path = directory.join(DATA);
        let data = File::options().read(true).write(true).create(true).truncate(false).open(&data_path);
        let data = data.map_err(WorkError::io(&data_path))?;
        if let Err(TryLockError::WouldBlock) = data.try_lock() {
            return Err(WorkError::InUse { directory: directory.to_owned() });
        }
        let header = Header { slmc_work: FORMAT, batch_tokens, inputs };
        let path = directory.join(JOURNAL);
        if !path.try_exists().map_err(WorkError::io(&path))? {
            return Self::start(directory, data, header);
        }
        let content = fs::read(&path).map_err(WorkError::io(&path))?;
        let journal = Journal::parse(&content).map_err(|broken| match broken {
            Broken::Version => WorkError::Version { directory: directory.to_owned() },
            Broken::Line(line) => {
                damaged(directory, format!("line {line} of the journal is not as it was written"))
            }
        })?;
        if !resume {
            return Err(WorkError::Unfinished {
                directory: directory.to_owned(),
                steps: journal.entries.len(),
            });
        }
        let changes = journal.header.inputs.changes(&header.inputs);
        if !changes.is_empty() {
            return Err(WorkError::Changed { directory: directory.to_owned(), changes });
        }
        Self::go_on(directory, data, journal)
    }

    /// A journal that appears whole: written under another name first.
    fn start(directory: &Path, data: File, header: Header) -> Result<Self, WorkError> {
        let (new, path) = (directory.join(NEW_JOURNAL), directory.join(JOURNAL));
        let mut chain = Chain::default();
        let line = chain.line(&header).expect("a header is plain data");
        let create = || -> std::io::Result<File> {
            data.set_len(0)?;
            let mut journal = File::create(&new)?;
            journal.write_all(line.as_bytes())?;
            journal.sync_all()?;
            fs::rename(&new, &path)?;
            sync_directory(directory)?;
            sync_directory(
                directory.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")),
            )?;
            Ok(journal)
        };
        let journal = create().map_err(WorkError::io(directory))?;
        let state = State { journal, chain, data, pieces: Vec::new(), end: 0, steps: 0 };
        Ok(Self {
            directory: directory.to_owned(),
            batch_tokens: header.batch_tokens,
            finished: HashMap::new(),
            state: Mutex::new(state),
        })
    }

    fn go_on(directory: &Path, data: File, found: Journal) -> Result<Self, WorkError> {
        let Journal { header, entries, chain, bytes } = found;
        let io = WorkError::io;
        let available = data.metadata().map_err(io(directory))?.len();
        let mut end = 0;
        for piece in entries.iter().flat_map(|entry| &entry.pieces) {
            end = match piece.offset.checked_add(piece.bytes) {
                Some(end) if end <= available => end,
                _ => {
                    let reason = format!(
                        "{DATA} has {available} bytes, and `{}` is said to lie behind them",
                        piece.name
                    );
                    return Err(damaged(directory, reason));
                }
            };
        }
        let path = directory.join(JOURNAL);
        let mut journal = File::options().write(true).open(&path).map_err(io(&path))?;
        let cut = journal.set_len(bytes).and_then(|()| journal.seek(SeekFrom::End(0)));
        cut.map_err(io(&path))?;
        data.set_len(end).map_err(io(directory))?;
        let state = State { journal, chain, data, pieces: Vec::new(), end, steps: entries.len() };
        Ok(Self {
            directory: directory.to_owned(),
            batch_tokens: header.batch_tokens,
            finished: entries.into_iter().map(|entry| (entry.step, entry)).collect(),
            state: Mutex::new(state),
        })
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Tokens that run through a block together: on them the last bits of the sums depend.
    pub fn batch_tokens(&self) -> usize {
        self.batch_tokens
    }

    /// A step that an earlier run finished.
    pub fn finished(&self, step: Step) -> Option<Finished<'_>> {
        self.finished.get(&step).map(|entry| Finished { work: self, entry })
    }

    /// How many of the first blocks an earlier run finished, `step` naming a block's step.
    pub fn finished_blocks(&self, step: impl Fn(usize) -> Step) -> usize {
        (0..).take_while(|&block| self.finished.contains_key(&step(block))).count()
    }

    /// Keeps bytes of the step at work; several calls in a row for one `name` are put together.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn put(&self, name: &str, bytes: &[u8]) -> Result<(), WorkError> {
        let mut state = self.state();
        let State { data, pieces, end, .. } = &mut *state;
        let written = data.seek(SeekFrom::Start(*end)).and_then(|_| data.write_all(bytes));
        written.map_err(WorkError::io(&self.directory))?;
        if pieces.last().is_none_or(|(piece, _)| piece.name != name) {
            let piece = Piece { name: name.to_owned(), offset: *end, bytes: 0, sha256: String::new() };
            pieces.push((piece, Sha256::new()));
        }
        let (piece, hash) = pieces.last_mut().expect("there is one by now");
        piece.bytes += bytes.len() as u64;
        hash.update(bytes);
        *end += bytes.len() as u64;
        Ok(())
    }

    /// As [`Work::put`], of values.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn put_values(&self, name: &str, values: &[f32]) -> Result<(), WorkError> {
        self.put(name, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())
    }

    /// Notes that a step is finished, after what was put since the last one is safe on the disk. `facts` are kept along.
    ///
    /// # Errors
    /// The disk fails.
    pub fn finish(&self, step: Step, facts: &impl Serialize) -> Result<(), WorkError> {
        let failed = |error: std::io::Error| WorkError::io(&self.directory)(error);
        let mut state = self.state();
        state.data.sync_data().map_err(failed)?;
        let seal = |(mut piece, hash): (Piece, Sha256)| {
            piece.sha256 = hexadecimal(&hash.finalize());
            piece
        };
        let pieces = std::mem::take(&mut state.pieces).into_iter().map(seal).collect();
        let facts = toml::to_string(facts).map_err(|error| failed(std::io::Error::other(error)))?;
        let line = state.chain.line(&Entry { step, pieces, facts }).map_err(|error| failed(error.into()))?;
        let journal = &mut state.journal;
        journal.write_all(line.as_bytes()).and_then(|()| journal.sync_data()).map_err(failed)?;
        state.steps += 1;
        Ok(())
    }

    /// Steps finished by now.
    pub fn steps(&self) -> usize {
        self.state().steps
    }

    /// A directory for preparing an output of several files.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn room(&self) -> Result<PathBuf, WorkError> {
        let room = self.directory.join(ROOM);
        fs::create_dir_all(&room).map_err(WorkError::io(&room))?;
        Ok(room)
    }

    /// Removes the directory: the output is whole, or there is nothing to keep.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(self) -> Result<(), WorkError> {
        let Self { directory, state, .. } = self;
        drop(state);
        // the journal before what it tells of: a kill in between leaves nothing that could be resumed
        let room = directory.join(ROOM);
        if room.exists() {
            fs::remove_dir(&room).map_err(WorkError::io(&room))?;
        }
        for name in [JOURNAL, DATA] {
            let path = directory.join(name);
            fs::remove_file(&path).map_err(WorkError::io(&path))?;
        }
        fs::remove_dir(&directory).map_err(WorkError::io(&directory))
    }

    /// Nothing panics while it holds the state; what is there is whole after every statement.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Finished<'_> {
    /// The bytes that were put under a name.
    ///
    /// # Errors
    /// There are none, or they are not what was put.
    pub fn bytes(&self, name: &str) -> Result<Vec<u8>, WorkError> {
        let directory = &self.work.directory;
        let piece = self.entry.pieces.iter().find(|piece| piece.name == name);
        let piece = piece.ok_or_else(|| damaged(directory, format!("the journal has no `{name}`")))?;
        // `open` held the length against the file's.
        let mut bytes = vec![0; piece.bytes as usize];
        let mut state = self.work.state();
        let data = &mut state.data;
        let read = data.seek(SeekFrom::Start(piece.offset)).and_then(|_| data.read_exact(&mut bytes));
        read.map_err(WorkError::io(directory))?;
        if hexadecimal(&Sha256::digest(&bytes)) != piece.sha256 {
            return Err(damaged(directory, format!("`{name}` in {DATA} is not as it was written")));
        }
        Ok(bytes)
    }

    /// The values that were put under a name.
    ///
    /// # Errors
    /// As [`Finished::bytes`].
    pub fn values(&self, name: &str) -> Result<Vec<f32>, WorkError> {
        let bytes = self.bytes(name)?;
        match bytes.as_chunks::<4>() {
            (chunks, []) => Ok(chunks.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect()),
            _ => Err(damaged(&self.work.directory, format!("`{name}` is no whole number of values"))),
        }
    }

    /// Names of what was put.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entry.pieces.iter().map(|piece| piece.name.as_str())
    }

    /// The error for a tensor that the journal names and the plan does not.
    pub fn unknown(&self, name: &str) -> WorkError {
        damaged(&self.work.directory, format!("the journal names `{name}`, which is not planned"))
    }

    /// The facts noted when the step was finished.
    ///
    /// # Errors
    /// They are of another form.
    pub fn facts<T: DeserializeOwned>(&self) -> Result<T, WorkError> {
        toml::from_str(&self.entry.facts).map_err(|_| {
            damaged(&self.work.directory, format!("{:?} is noted in another form", self.entry.step))
        })
    }
}

fn damaged(directory: &Path, reason: String) -> WorkError {
    WorkError::Damaged { directory: directory.to_owned(), reason }
}

/// Whether anything in the directory is none of its own files. Nothing that slmc did not make is ever removed.
fn holds_something_else(directory: &Path) -> Result<bool, WorkError> {
    let io = WorkError::io;
    for entry in fs::read_dir(directory).map_err(io(directory))? {
        let name = entry.map_err(io(directory))?.file_name();
        if ![DATA, JOURNAL, NEW_JOURNAL, ROOM].iter().any(|own| name == *own) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A name is durable once its directory is; other systems than Unix cannot open directories.
fn sync_directory(path: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    File::open(path)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

#[cfg(test)]
mod tests;
