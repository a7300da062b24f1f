//! The bundled calibration corpus: about 200 KB of varied text, for when no other is given.
//!
//! `data/manifest.json` lists its files with their SHA-256; a test holds it to them. After a change of the
//! texts, `SLMC_UPDATE_MANIFEST=1 cargo test -p slmc-calibration --test bundled` rewrites it.

use std::path::Path;

use serde_json::Value;

use crate::chat::transcript;
use crate::documents::parse_jsonl;
use crate::{CalibrationError, ChatTemplate, Document, MeasuredText};

/// One file of the corpus: name and contents.
#[derive(Clone, Copy, Debug)]
pub struct BundledFile {
    /// Its name in `calibration/data`.
    pub name: &'static str,
    /// Its contents.
    pub text: &'static str,
}

macro_rules! bundled {
    ($($name:literal),* $(,)?) => {
        &[$(BundledFile { name: $name, text: include_str!(concat!("../data/", $name)) }),*]
    };
}

/// Every file of the corpus.
pub const FILES: &[BundledFile] =
    bundled!["english.txt", "korean.txt", "code.txt", "mathematics.txt", "dialogue.jsonl"];

/// The hashes of [`FILES`], as JSON.
pub const MANIFEST: &str = include_str!("../data/manifest.json");

/// The line between two documents of a `.txt` file of this corpus.
const SEPARATOR: &str = "\n\n---\n\n";

/// One document in this many is held out.
const HELD_OUT: usize = 8;

/// Some of the corpus's [`FILES`], by the names they have without ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts([bool; FILES.len()]);

impl Default for Parts {
    /// All of them.
    fn default() -> Self {
        Self([true; FILES.len()])
    }
}

impl Parts {
    /// Parts by their names, separated by commas: `english,code`.
    ///
    /// # Errors
    /// A name that is not one of them; the message lists those that are.
    pub fn named(names: &str) -> Result<Self, String> {
        let mut parts = Self([false; FILES.len()]);
        for name in names.split(',') {
            let at = FILES.iter().position(|file| file.part() == name).ok_or_else(|| {
                let known = Self::default().names().collect::<Vec<_>>().join(", ");
                format!("the bundled corpus has no part {name:?}; it has {known}")
            })?;
            parts.0[at] = true;
        }
        Ok(parts)
    }

    /// The names of these parts.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.files().map(BundledFile::part)
    }

    fn files(&self) -> impl Iterator<Item = &'static BundledFile> {
        FILES.iter().zip(self.0).filter(|(_, chosen)| *chosen).map(|(file, _)| file)
    }
}

impl BundledFile {
    /// The name of the part that the file is.
    fn part(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(part, _)| part)
    }

    /// The documents of each of its records. `render` makes those of a conversation.
    fn records(
        &self,
        render: impl Fn(&[Value]) -> Result<Vec<Document>, String>,
    ) -> Result<Vec<Vec<Document>>, CalibrationError> {
        if self.name.ends_with(".jsonl") {
            return parse_jsonl(self.text, Path::new(self.name), |messages| render(messages).map(Some));
        }
        let texts = self.text.split(SEPARATOR).map(str::trim_end);
        Ok(texts.filter(|text| !text.is_empty()).map(|text| vec![Document::plain(text)]).collect())
    }
}

/// Of every file, whether its document number `n` is held out.
fn is_held_out(n: usize) -> bool {
    n % HELD_OUT == HELD_OUT - 1
}

/// The records that are held out, or all others.
fn part(
    parts: &Parts,
    held_out: bool,
    render: impl Fn(&[Value]) -> Result<Vec<Document>, String>,
) -> Result<Vec<Document>, CalibrationError> {
    let mut kept = Vec::new();
    for file in parts.files() {
        let all = file.records(&render)?.into_iter().enumerate();
        kept.extend(all.filter(|(n, _)| is_held_out(*n) == held_out).flat_map(|(_, documents)| documents));
    }
    Ok(kept)
}

fn plain(messages: &[Value]) -> Vec<Document> {
    vec![Document::plain(transcript(messages))]
}

/// The documents to calibrate on: all but those of [`held_out`]. Conversations are rendered through `template`; for a model without
/// one they are plain transcripts (`User: …`, `Assistant: …`).
///
/// # Errors
/// A template that fails on a conversation.
pub fn documents(parts: &Parts, template: Option<&ChatTemplate>) -> Result<Vec<Document>, CalibrationError> {
    part(parts, false, |messages| match template {
        Some(template) => Ok(vec![Document::markup(template.render(messages)?)]),
        None => Ok(plain(messages)),
    })
}

/// The same to train on: with a template, the assistant's answers are what is to be learned of conversations.
///
/// # Errors
/// As [`documents`]; a template whose answers cannot be told from the rest.
pub fn answers(parts: &Parts, template: Option<&ChatTemplate>) -> Result<Vec<Document>, CalibrationError> {
    part(parts, false, |messages| match template {
        Some(template) => crate::documents::answers(template, messages),
        None => Ok(plain(messages)),
    })
}

/// Documents to measure on that no calibration on this corpus has seen: every eighth of each part, conversations as plain
/// transcripts.
///
/// # Errors
/// None of the bundled files give rise to any.
pub fn held_out_documents(parts: &Parts) -> Result<Vec<Document>, CalibrationError> {
    part(parts, true, |messages| Ok(plain(messages)))
}

/// The text of [`held_out_documents`], blank lines between.
///
/// # Errors
/// As there.
pub fn held_out(parts: &Parts) -> Result<String, CalibrationError> {
    let texts: Vec<String> = held_out_documents(parts)?.into_iter().map(|document| document.text).collect();
    Ok(texts.join(MeasuredText::BETWEEN))
}
