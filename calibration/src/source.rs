//! Where text comes from, as a user names it: a file, or parts of the bundled corpus.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::bundled::Parts;
use crate::{CalibrationError, ChatTemplate, Document, bundled, documents};

/// What the name of the bundled corpus begins with.
const BUNDLED: &str = "bundled";

/// A named source of text: a path, `bundled`, or `bundled:english,code`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextSource {
    /// A text or JSON-lines file.
    File(PathBuf),
    /// The bundled corpus, or parts of it.
    Bundled(Parts),
}

/// A text to measure on, and where in it its documents are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MeasuredText {
    /// The documents, a blank line between two.
    pub text: String,
    /// Ranges of bytes, in order.
    pub documents: Vec<Range<usize>>,
}

impl MeasuredText {
    /// What stands between two documents.
    pub const BETWEEN: &str = "\n\n";

    fn join(documents: Vec<Document>) -> Self {
        let mut joined = Self::default();
        for Document { text, .. } in documents {
            if !joined.documents.is_empty() {
                joined.text.push_str(Self::BETWEEN);
            }
            let start = joined.text.len();
            joined.text.push_str(&text);
            joined.documents.push(start..joined.text.len());
        }
        joined
    }
}

impl Default for TextSource {
    /// The whole bundled corpus.
    fn default() -> Self {
        Self::Bundled(Parts::default())
    }
}

impl TextSource {
    /// The documents to calibrate on; of the bundled corpus all but those of [`to_measure`](Self::to_measure).
    ///
    /// # Errors
    /// A file that cannot be read; a template that fails.
    pub fn to_calibrate(&self, template: Option<&ChatTemplate>) -> Result<Vec<Document>, CalibrationError> {
        match self {
            Self::File(path) => documents::read(path, template),
            Self::Bundled(parts) => bundled::documents(parts, template),
        }
    }

    /// The documents to train on: those of [`to_calibrate`](Self::to_calibrate), of conversations only the assistant's answers to be
    /// learned. Conversations without an answer are left out.
    ///
    /// # Errors
    /// As there; a template whose answers cannot be told from the rest.
    pub fn to_train(&self, template: Option<&ChatTemplate>) -> Result<Vec<Document>, CalibrationError> {
        match self {
            Self::File(path) => documents::read_answers(path, template),
            Self::Bundled(parts) => bundled::answers(parts, template),
        }
    }

    /// The text to measure on: a plain file as it is, which is one document; the records of a JSON-lines file; or the held-out
    /// documents of the bundled corpus. Conversations are plain transcripts (`User: …`, `Assistant: …`), whatever the model's chat
    /// template, so that all models are measured on the same text.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn to_measure(&self) -> Result<MeasuredText, CalibrationError> {
        match self {
            Self::File(path) => documents::read_to_measure(path).map(MeasuredText::join),
            Self::Bundled(parts) => bundled::held_out_documents(parts).map(MeasuredText::join),
        }
    }

    /// The same source with a relative path taken from `directory`.
    pub fn relative_to(self, directory: &Path) -> Self {
        match self {
            Self::File(path) => Self::File(directory.join(path)),
            bundled => bundled,
        }
    }
}

impl fmt::Display for TextSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Bundled(parts) if *parts == Parts::default() => f.write_str(BUNDLED),
            Self::Bundled(parts) => write!(f, "{BUNDLED}:{}", parts.names().collect::<Vec<_>>().join(",")),
        }
    }
}

impl FromStr for TextSource {
    type Err = String;

    /// A file called `bundled` is named as `./bundled`.
    fn from_str(name: &str) -> Result<Self, String> {
        match name.strip_prefix(BUNDLED) {
            Some("") => Ok(Self::default()),
            Some(rest) if rest.starts_with(':') => Parts::named(&rest[1..]).map(Self::Bundled),
            _ => Ok(Self::File(name.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for name in ["a/b.txt", "./bundled", "bundled", "bundled:english", "bundled:korean,code"] {
            assert_eq!(name.parse::<TextSource>().unwrap().to_string(), name);
        }
        let error = "bundled:klingon".parse::<TextSource>().unwrap_err();
        assert!(error.contains("klingon") && error.contains("english"), "{error}");
        assert!("bundled:".parse::<TextSource>().is_err());
        assert_eq!("bundledx".parse::<TextSource>().unwrap(), TextSource::File("bundledx".into()));
    }

    #[test]
    fn texts_to_measure_know_their_documents() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, contents: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, contents).unwrap();
            TextSource::File(path).to_measure().unwrap()
        };
        let plain = file("a.txt", "One.\n\nStill the same document.\n");
        assert_eq!((plain.text.as_str(), plain.documents.len()), ("One.\n\nStill the same document.\n", 1));
        let lines = "{\"text\": \"수 one\"}\n\n{\"text\": \"\"}\n{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}\n";
        let records = file("b.jsonl", lines);
        let documents: Vec<&str> = records.documents.iter().map(|d| &records.text[d.clone()]).collect();
        assert_eq!(documents.len(), 2, "{documents:?}");
        assert_eq!(documents[0], "수 one");
        assert!(documents[1].starts_with("User: Hi"), "{documents:?}");
        assert_eq!(records.text, documents.join("\n\n"));
        let bundled = "bundled:english,dialogue".parse::<TextSource>().unwrap();
        let measured = bundled.to_measure().unwrap();
        assert!(measured.documents.len() > 2 && measured.documents.iter().all(|d| !d.is_empty()));
        let TextSource::Bundled(parts) = bundled else { unreachable!() };
        assert_eq!(measured.text, bundled::held_out(&parts).unwrap());
    }

    #[test]
    fn only_paths_are_relative() {
        let moved = |name: &str| name.parse::<TextSource>().unwrap().relative_to(Path::new("d")).to_string();
        assert_eq!(
            [moved("x.txt"), moved("/x.txt"), moved("bundled:code")],
            ["d/x.txt", "/x.txt", "bundled:code"]
        );
    }
}
