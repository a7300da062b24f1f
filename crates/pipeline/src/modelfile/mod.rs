//! An Ollama Modelfile for a GGUF file: what Ollama should know that it does not read from the file itself.
//!
//! Source: Ollama's documentation of the Modelfile; `template/template.go` of its sources, which says what a template is given.

mod go;
mod turns;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;
use slmc_calibration::ChatTemplate;
use slmc_gguf::vocabulary::{TokenKind, Vocabulary};
use slmc_report::file::write_whole;

use crate::PipelineError;
use turns::{System, Turns};

/// The function by which a template is told the day.
const CLOCK: &str = "strftime_now";

/// A Modelfile's text, and what it could not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Modelfile {
    /// The text.
    pub text: String,
    /// Why it has no template, where the model has one.
    pub left_out: Option<String>,
}

impl Modelfile {
    /// The Modelfile of the file named `gguf`, which stands beside it. `generation` is the contents of `generation_config.json`.
    ///
    /// A template is given where the model's own was found to write turns one after the other; it is checked against what that
    /// renders. Otherwise none is: Ollama reads the model's own template in the GGUF file, as far as it knows it.
    pub fn new(gguf: &Path, vocabulary: &Vocabulary, generation: Option<&Value>) -> Self {
        let name = gguf.file_name().unwrap_or_default().to_string_lossy();
        let quote = if name.contains(char::is_whitespace) { "\"" } else { "" };
        let mut text =
            format!("# ollama create NAME -f FILE, where FILE is this file\nFROM {quote}./{name}{quote}\n");
        let source = vocabulary.chat_templates().default.as_deref();
        let template = source.map(|source| template(source, vocabulary));
        let left_out = match &template {
            None => {
                text.push_str("\n# The model has no chat template.\n");
                None
            }
            Some(Err(reason)) => {
                text.push_str("\n# No TEMPLATE: ");
                text.push_str(reason);
                text.push_str(".\n# Ollama looks for one that fits the template in the GGUF file.\n");
                Some(reason.clone())
            }
            Some(Ok((turns, template))) => {
                text.push('\n');
                if turns.system == System::Refused {
                    text.push_str("# The model's own template refuses system messages; they are left out.\n");
                }
                if source.is_some_and(|source| source.contains("tools")) {
                    text.push_str(
                        "# Messages only: what the model's own template does with tools is not in it.\n",
                    );
                }
                // writing to a string cannot fail
                let _ = writeln!(text, "TEMPLATE \"\"\"{template}\"\"\"");
                None
            }
        };
        let parameters = parameters(vocabulary, generation);
        if !parameters.is_empty() {
            text.push('\n');
        }
        for (name, value) in parameters {
            let _ = writeln!(text, "PARAMETER {name} {value}");
        }
        Self { text, left_out }
    }

    /// Writes it beside the file `gguf`, with the ending `.Modelfile` in place of that one's, and returns where.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, gguf: &Path) -> Result<PathBuf, PipelineError> {
        let path = gguf.with_extension("Modelfile");
        write_whole(&path, self.text.as_bytes())
            .map_err(|error| PipelineError::Output { path: path.clone(), reason: error.to_string() })?;
        Ok(path)
    }
}

/// The model's template in Go's, or why there is none.
fn template(source: &str, vocabulary: &Vocabulary) -> Result<(Turns, String), String> {
    let spelled = |id: Option<u32>| vocabulary.tokens().get(id? as usize);
    let ids = vocabulary.special();
    let tokens = serde_json::json!({
        "bos_token": spelled(ids.bos), "eos_token": spelled(ids.eos),
        "unk_token": spelled(ids.unk), "pad_token": spelled(ids.pad),
    });
    let template = ChatTemplate::without_clock(source, Some(&tokens)).map_err(|error| error.to_string())?;
    let bos = spelled(ids.bos).filter(|_| vocabulary.add_bos());
    let turns = Turns::of(&template).map_err(|reason| match reason.contains(CLOCK) {
        true => "the model's template tells what day it is, which Ollama's do not".to_owned(),
        false => reason,
    })?;
    let template = go::template(&turns, bos)?;
    Ok((turns, template))
}

/// Names and values of `PARAMETER` lines: where a generation ends, and how the model's authors sample from it.
fn parameters(vocabulary: &Vocabulary, generation: Option<&Value>) -> Vec<(&'static str, String)> {
    // what is text would end a generation wherever it is said
    let is_mark =
        |id: &u32| matches!(vocabulary.kinds()[*id as usize], TokenKind::Control | TokenKind::UserDefined);
    let ends = vocabulary.ends().into_iter().filter(is_mark);
    let ends = ends.filter_map(|id| vocabulary.tokens().get(id as usize));
    let mut parameters: Vec<_> = ends
        .filter(|end| !end.contains(['"', '\\', '\n']))
        .map(|end| ("stop", format!("\"{end}\"")))
        .collect();
    let Some(generation) = generation else { return parameters };
    if generation["do_sample"] == Value::Bool(false) {
        parameters.push(("temperature", "0".into()));
        return parameters;
    }
    for (ours, theirs, neutral) in [
        ("temperature", "temperature", 1.0),
        ("top_k", "top_k", 0.0),
        ("top_p", "top_p", 1.0),
        ("min_p", "min_p", 0.0),
        ("repetition_penalty", "repeat_penalty", 1.0),
    ] {
        // Ollama has defaults of its own, so neutral values are told as well
        if let Some(value) = generation[ours].as_f64().filter(|value| value.is_finite() && *value >= 0.0) {
            let said = generation["do_sample"] == Value::Bool(true) || value != neutral;
            if said {
                parameters.push((theirs, value.to_string()));
            }
        }
    }
    parameters
}
