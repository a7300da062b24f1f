//! The files beside the weights: tokenizer, generation settings, chat template.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::json_file::{read_json, read_text};
use crate::{Checkpoint, CheckpointError};

/// Every file beside `config.json` and the weights that belongs to a checkpoint, so that a rewritten one can
/// take them along.
pub const SIDE_FILES: [&str; 10] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
];

/// Tokenizers in other forms, from which transformers writes `tokenizer.json`: SentencePiece's, and byte-level BPE's merges.
const OTHER_TOKENIZERS: [&str; 2] = ["tokenizer.model", "merges.txt"];

/// The directory of chat templates for other uses than a plain chat.
pub(crate) const ADDITIONAL_CHAT_TEMPLATES: &str = "additional_chat_templates";

impl Checkpoint {
    /// Where `tokenizer.json` is, or would be.
    pub fn tokenizer_json_path(&self) -> PathBuf {
        self.dir().join("tokenizer.json")
    }

    /// The contents of `tokenizer.json`. Its absence is an error, which says what to do where the tokenizer is there in another form.
    pub fn tokenizer_json(&self) -> Result<Value, CheckpointError> {
        read_json(&self.tokenizer_json_path())?.ok_or_else(|| {
            let dir = self.dir().to_path_buf();
            match OTHER_TOKENIZERS.into_iter().find(|file| dir.join(file).is_file()) {
                Some(found) => CheckpointError::OtherTokenizer { dir, found },
                None => CheckpointError::MissingFile { dir, file: "tokenizer.json" },
            }
        })
    }

    /// The contents of `tokenizer_config.json`, if there is one.
    pub fn tokenizer_config(&self) -> Result<Option<Value>, CheckpointError> {
        read_json(&self.dir().join("tokenizer_config.json"))
    }

    /// The contents of `generation_config.json`, if there is one.
    pub fn generation_config(&self) -> Result<Option<Value>, CheckpointError> {
        read_json(&self.dir().join("generation_config.json"))
    }

    /// The chat template's Jinja source, if the checkpoint has one.
    ///
    /// Looked for in transformers' order (`ProcessorMixin`/`PreTrainedTokenizerBase`): the file
    /// `chat_template.jinja`, then `chat_template` in `tokenizer_config.json`, either a string or a list of
    /// `{name, template}` of which `default` is meant, then the older file `chat_template.json`.
    pub fn chat_template(&self) -> Result<Option<String>, CheckpointError> {
        if let Some(text) = read_text(&self.dir().join("chat_template.jinja"))? {
            return Ok(Some(text));
        }
        for file in ["tokenizer_config.json", "chat_template.json"] {
            let path = self.dir().join(file);
            let Some(json) = read_json(&path)? else { continue };
            match default_template(json.get("chat_template")) {
                Ok(Some(template)) => return Ok(Some(template)),
                Ok(None) => {}
                Err(reason) => return Err(CheckpointError::Json { path, reason }),
            }
        }
        Ok(None)
    }
}

impl Checkpoint {
    /// Chat templates for other uses than a plain chat, by name: the files of `additional_chat_templates/` that end in `.jinja`, in the
    /// order of their names. Those that `tokenizer_config.json` lists are not among them.
    pub fn additional_chat_templates(&self) -> Result<Vec<(String, String)>, CheckpointError> {
        let dir = self.dir().join(ADDITIONAL_CHAT_TEMPLATES);
        let mut templates = Vec::new();
        for path in
            named_templates(&dir).map_err(|source| CheckpointError::Io { path: dir.clone(), source })?
        {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            if let Some(text) = read_text(&path)? {
                templates.push((name, text));
            }
        }
        Ok(templates)
    }
}

/// The templates in a directory, sorted; none where there is no such directory.
pub(crate) fn named_templates(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    if dir.is_dir() {
        for entry in std::fs::read_dir(dir)? {
            paths.push(entry?.path());
        }
    }
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "jinja"));
    paths.sort();
    Ok(paths)
}

/// The template that is used when none is asked for by name.
fn default_template(value: Option<&Value>) -> Result<Option<String>, String> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(template)) => Ok(Some(template.clone())),
        Some(Value::Array(named)) => {
            let mut names = Vec::new();
            for entry in named {
                let (Some(name), Some(template)) = (
                    entry.get("name").and_then(Value::as_str),
                    entry.get("template").and_then(Value::as_str),
                ) else {
                    return Err(
                        "chat_template: expected each list entry to have a name and a template".into()
                    );
                };
                if name == "default" {
                    return Ok(Some(template.to_owned()));
                }
                names.push(name);
            }
            Err(format!("chat_template: none of the named templates {names:?} is called default"))
        }
        Some(_) => Err("chat_template: expected a string or a list of named templates".into()),
    }
}
