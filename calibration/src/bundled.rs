//! The bundled calibration corpus: about 200 KB of varied text, for when no other is given.
//!
//! `data/manifest.json` lists its files with their SHA-256; a test holds it to them. After a change of the
//! texts, `SLMC_UPDATE_MANIFEST=1 cargo test -p slmc-calibration --test bundled` rewrites it.

use std::path::Path;

use crate::chat::transcript;
use crate::documents::parse_jsonl;
use crate::{CalibrationError, ChatTemplate, Document, TextKind};

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

/// The documents to calibrate on: all but those of [`held_out`]. Conversations are rendered through
/// `template`; for a model without one they are plain transcripts (`User: …`, `Assistant: …`).
///
/// # Errors
/// A template that fails on a conversation.
pub fn documents(template: Option<&ChatTemplate>) -> Result<Vec<Document>, CalibrationError> {
    let kept = all(template)?.into_iter().enumerate().filter(|(n, _)| n % HELD_OUT != HELD_OUT - 1);
    Ok(kept.map(|(_, document)| document).collect())
}

/// A text to measure on that no calibration on this corpus has seen: every eighth document, conversations as
/// plain transcripts, blank lines between.
///
/// # Errors
/// None of the bundled files give rise to any.
pub fn held_out() -> Result<String, CalibrationError> {
    let held = all(None)?.into_iter().enumerate().filter(|(n, _)| n % HELD_OUT == HELD_OUT - 1);
    Ok(held.map(|(_, document)| document.text).collect::<Vec<_>>().join("\n\n"))
}

fn all(template: Option<&ChatTemplate>) -> Result<Vec<Document>, CalibrationError> {
    let mut documents = Vec::new();
    for file in FILES {
        if file.name.ends_with(".jsonl") {
            documents.extend(parse_jsonl(file.text, Path::new(file.name), |messages| {
                Ok(Some(match template {
                    Some(template) => (template.render(messages)?, TextKind::Markup),
                    None => (transcript(messages), TextKind::Plain),
                }))
            })?);
        } else {
            let texts = file.text.split(SEPARATOR).map(str::trim_end);
            documents.extend(texts.filter(|text| !text.is_empty()).map(Document::plain));
        }
    }
    Ok(documents)
}
