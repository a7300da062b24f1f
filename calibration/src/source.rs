//! Where text comes from, as a user names it: a file, or parts of the bundled corpus.

use std::fmt;
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

    /// The text to measure on: a file as it is, or the held-out documents of the bundled corpus.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn to_measure(&self) -> Result<String, CalibrationError> {
        match self {
            Self::File(path) => documents::read_text(path),
            Self::Bundled(parts) => bundled::held_out(parts),
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
    fn only_paths_are_relative() {
        let moved = |name: &str| name.parse::<TextSource>().unwrap().relative_to(Path::new("d")).to_string();
        assert_eq!(
            [moved("x.txt"), moved("/x.txt"), moved("bundled:code")],
            ["d/x.txt", "/x.txt", "bundled:code"]
        );
    }
}
