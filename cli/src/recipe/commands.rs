//! What a recipe has to know of a command: how it is given a model, and what it leaves for the next one.

use std::path::Path;

use toml::Table;

/// What a command writes, as part of its output's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// A model, with this ending.
    Model(&'static str),
    /// Something else that later steps may name.
    Other(&'static str),
    /// Nothing of that kind.
    Nothing,
}

/// A command that can be a step.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The option that names the model it works on; `None` where that is its first argument.
    pub model: Option<&'static str>,
    /// The option that names the original to compare with.
    pub base: Option<&'static str>,
    pub output: Output,
    /// Whether it goes on with --resume.
    pub resumes: bool,
    /// Whether it has --dry-run.
    pub plans: bool,
}

/// The commands that can be steps.
pub const NAMES: [&str; 9] =
    ["prune", "distill", "quantize", "convert", "imatrix", "eval", "gate", "bench", "generate"];

/// The options that make a student of a part of its teacher.
const SIZES: [&str; 5] = ["layers", "hidden-size", "channels", "query-heads", "kv-heads"];

/// What a command is, with these options.
pub fn known(command: &str, options: &Table) -> Option<Known> {
    let writes = |output, resumes, plans| Known { model: None, base: None, output, resumes, plans };
    let measures = |base| Known { model: None, base, output: Output::Nothing, resumes: false, plans: false };
    let named = |option: &str, ending: &str| {
        let value = options.get(option).and_then(|value| value.as_str());
        value
            .is_some_and(|value| Path::new(value).extension().is_some_and(|e| e.eq_ignore_ascii_case(ending)))
    };
    Some(match command {
        "prune"
            if named("output", "gguf") || options.get("format").and_then(|f| f.as_str()) == Some("gguf") =>
        {
            writes(Output::Model(".gguf"), true, true)
        }
        "prune" => writes(Output::Model(""), true, true),
        // a student that is a part of the teacher needs no other model
        "distill" if SIZES.iter().any(|size| options.contains_key(*size)) => {
            Known { model: Some("teacher"), ..writes(Output::Model(""), true, false) }
        }
        "distill" => {
            Known { model: Some("student"), base: Some("teacher"), ..writes(Output::Model(""), true, false) }
        }
        "quantize" if options.contains_key("group-size") => writes(Output::Model(""), true, true),
        "quantize" => writes(Output::Model(".gguf"), true, true),
        "convert" => writes(Output::Model(".gguf"), false, false),
        "imatrix" => writes(Output::Other(".imatrix.gguf"), true, false),
        "eval" if options.contains_key("base-logits") => measures(None),
        "eval" | "gate" | "bench" => measures(Some("base")),
        "generate" => measures(None),
        _ => return None,
    })
}
