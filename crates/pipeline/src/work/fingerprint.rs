//! What a run's result depends on, in parts that an error can name.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Bytes of a safetensors file in front of its header: the header's length.
const LENGTH_BYTES: u64 = 8;

/// The inputs of a run: names for people, and values that are equal where the inputs are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint(Vec<Input>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Input {
    name: String,
    value: String,
    /// Whether the value tells a person anything.
    readable: bool,
}

/// One input that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    name: String,
    values: Option<(String, String)>,
}

impl Fingerprint {
    /// Adds an input whose value is fit to be shown.
    pub fn value(&mut self, name: impl Into<String>, value: impl fmt::Display) {
        self.0.push(Input { name: name.into(), value: value.to_string(), readable: true });
    }

    /// Adds an input by the SHA-256 of its content.
    pub fn content(&mut self, name: impl Into<String>, content: &[u8]) {
        self.0.push(Input {
            name: name.into(),
            value: hexadecimal(&Sha256::digest(content)),
            readable: false,
        });
    }

    /// Adds a weight file by its size, its time of change and the SHA-256 of its safetensors header. The weights themselves
    /// are not read, which would take as long as much of the work: a file whose bytes change under the same header without
    /// its time of change is not noticed.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn weight_file(&mut self, path: &Path) -> io::Result<()> {
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        let changed = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let mut length = [0; LENGTH_BYTES as usize];
        file.read_exact(&mut length)?;
        let header = u64::from_le_bytes(length).min(metadata.len());
        let mut hash = Sha256::new();
        let mut part = [0; 1 << 14];
        let mut rest = file.take(header);
        loop {
            match rest.read(&mut part)? {
                0 => break,
                n => hash.update(&part[..n]),
            }
        }
        let value = format!("{} {changed} {}", metadata.len(), hexadecimal(&hash.finalize()));
        self.0.push(Input { name: path.display().to_string(), value, readable: false });
        Ok(())
    }

    /// Adds a file or everything in a directory: small files by their content, others by size and time of change.
    ///
    /// # Errors
    /// Something cannot be read.
    pub fn path(&mut self, path: &Path) -> io::Result<()> {
        /// From which size on reading would take long.
        const LARGE: u64 = 4 << 20;
        let metadata = path.metadata()?;
        if metadata.is_dir() {
            let entries: io::Result<Vec<_>> = path.read_dir()?.map(|entry| Ok(entry?.path())).collect();
            let mut entries = entries?;
            entries.sort();
            return entries.iter().try_for_each(|entry| self.path(entry));
        }
        if metadata.is_file() && metadata.len() < LARGE {
            self.content(path.display().to_string(), &std::fs::read(path)?);
        } else {
            let changed = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
            let value = format!("{} {changed}", metadata.len());
            self.0.push(Input { name: path.display().to_string(), value, readable: false });
        }
        Ok(())
    }

    /// What `self`, as it was recorded, has otherwise than `now`.
    pub fn changes(&self, now: &Self) -> Vec<Change> {
        let find = |inputs: &Self, name: &str| inputs.0.iter().find(|i| i.name == name).cloned();
        let mut changes = Vec::new();
        for was in &self.0 {
            let is = find(now, &was.name);
            if is.as_ref().is_none_or(|is| is.value != was.value) {
                changes.push(Change::new(&was.name, Some(was), is.as_ref()));
            }
        }
        let added = now.0.iter().filter(|is| find(self, &is.name).is_none());
        changes.extend(added.map(|is| Change::new(&is.name, None, Some(is))));
        changes
    }
}

impl Change {
    fn new(name: &str, was: Option<&Input>, is: Option<&Input>) -> Self {
        let readable = was.or(is).is_some_and(|input| input.readable);
        let value = |input: Option<&Input>| input.map_or_else(|| "not there".into(), |i| i.value.clone());
        Self { name: name.into(), values: readable.then(|| (value(was), value(is))) }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.values {
            Some((was, is)) => write!(f, "{} was {was} and is {is}", self.name),
            None => write!(f, "{} has changed", self.name),
        }
    }
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(effort: &str, tokens: &[u8]) -> Fingerprint {
        let mut inputs = Fingerprint::default();
        inputs.value("effort", effort);
        inputs.content("the calibration text", tokens);
        inputs
    }

    #[test]
    fn changes_are_named() {
        let was = inputs("fast", b"abc");
        assert_eq!(was.changes(&was), []);
        let said = |now: &Fingerprint| was.changes(now).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            said(&inputs("best", b"abd")),
            ["effort was fast and is best", "the calibration text has changed"]
        );
        let mut more = inputs("fast", b"abc");
        more.value("keep", "output");
        assert_eq!(said(&more), ["keep was not there and is output"]);
        let less = Fingerprint(was.0[..1].to_vec());
        assert_eq!(said(&less), ["the calibration text has changed"]);
    }

    #[test]
    fn a_weight_file_changes_with_its_header_and_its_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.safetensors");
        let of = |header: &[u8; 2], time: u64| {
            let bytes = [&2u64.to_le_bytes()[..], header, &[0; 100]].concat();
            std::fs::write(&path, bytes).unwrap();
            let file = File::options().write(true).open(&path).unwrap();
            file.set_modified(UNIX_EPOCH + std::time::Duration::from_nanos(time)).unwrap();
            let mut fingerprint = Fingerprint::default();
            fingerprint.weight_file(&path).unwrap();
            fingerprint
        };
        assert_eq!(of(b"{}", 1), of(b"{}", 1));
        assert_ne!(of(b"{}", 1), of(b"[]", 1));
        assert_ne!(of(b"{}", 1), of(b"{}", 2));
    }
}
