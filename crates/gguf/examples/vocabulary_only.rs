//! A GGUF file with a vocabulary and no tensors, for `llama-tokenize -m OUT.gguf`:
//! `vocabulary_only DIRECTORY OUT.gguf [PRE]`, where the directory holds `tokenizer.json` and its neighbours.
//!
//! With `OUT.json` instead, the tokenizer rebuilt from the same metadata.

use std::path::Path;

use serde_json::Value;
use slmc_gguf::TensorType;
use slmc_gguf::container::{Layout, Metadata, Writer};
use slmc_gguf::vocabulary::Vocabulary;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [directory, out, pre @ ..] = args.as_slice() else {
        return Err("DIRECTORY OUT [PRE] are needed".into());
    };
    let read = |name: &str| -> Result<Value, Box<dyn std::error::Error>> {
        Ok(serde_json::from_slice(&std::fs::read(Path::new(directory).join(name))?)?)
    };
    let tokenizer = read("tokenizer.json")?;
    let config = read("tokenizer_config.json").ok();
    let rows = read("config.json").ok().and_then(|c| c["vocab_size"].as_u64());
    let size = match rows {
        Some(rows) => rows as usize,
        None => tokenizer["model"]["vocab"].as_object().map_or(0, |v| v.len()),
    };
    let pre = pre.first().map(String::as_str);
    let vocabulary = Vocabulary::from_tokenizer_json(&tokenizer, config.as_ref(), size, pre)?;
    for note in vocabulary.notes() {
        eprintln!("note: {note}");
    }
    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", "llama");
    vocabulary.write(&mut metadata);
    if out.ends_with(".json") {
        let rebuilt = Vocabulary::from_metadata(&metadata)?.to_tokenizer_json()?;
        std::fs::write(out, rebuilt.to_string())?;
        return Ok(());
    }
    let none = std::iter::empty::<(String, Vec<usize>, TensorType)>();
    Writer::create(Path::new(out), Layout::new(metadata, none)?)?.finish()?;
    Ok(())
}
