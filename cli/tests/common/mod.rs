//! What the command-line tests share: running `slmc` and copies of the bundled model.
#![allow(dead_code)] // not every test file uses everything

pub mod distill;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

/// The bundled model.
pub fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("cli/ stands in the workspace").join("models/tiny")
}

/// Runs `slmc` in `directory`.
pub fn slmc(directory: &Path, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_slmc"))
        .args(arguments)
        .current_dir(directory)
        .env("NO_COLOR", "1")
        .output()
        .expect("slmc starts")
}

/// Standard error as text, without the line breaks of a narrow terminal.
pub fn stderr(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    text.split_whitespace()
        .filter(|word| !matches!(*word, "│" | "×" | "╰─▶" | "├─▶"))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Standard output as text.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A copy of the bundled model in `directory`.
pub fn copy_tiny(directory: &Path) {
    std::fs::create_dir_all(directory).unwrap();
    for entry in std::fs::read_dir(tiny()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), directory.join(entry.file_name())).unwrap();
    }
}

/// Names of everything in `directory`, sorted.
pub fn listing(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Whether a message holds `part`, wherever the terminal's width broke its lines.
pub fn says(message: &str, part: &str) -> bool {
    let joined = |text: &str| text.split_whitespace().collect::<String>();
    joined(message).contains(&joined(part))
}

/// Adds rows of zeros to the embedding of a copy of the bundled model.
pub fn pad(model: &Path, rows: u64) {
    const EMBEDDING: &str = "model.embed_tokens.weight";
    let weights = model.join("model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let mut data = bytes[8 + length..].to_vec();
    // its data moves to the end, so that what stands behind it moves up
    let offsets = |tensor: &Value| [0, 1].map(|i| tensor["data_offsets"][i].as_u64().unwrap());
    let [start, end] = offsets(&header[EMBEDDING]);
    let embedding: Vec<u8> = data.drain(start as usize..end as usize).collect();
    for (name, tensor) in
        header.as_object_mut().unwrap().iter_mut().filter(|(name, _)| *name != "__metadata__")
    {
        let [from, to] = offsets(tensor);
        if name == EMBEDDING {
            let width = tensor["shape"][1].as_u64().unwrap();
            tensor["shape"][0] = json!(tensor["shape"][0].as_u64().unwrap() + rows);
            let first = data.len() as u64;
            tensor["data_offsets"] = json!([first, first + end - start + 2 * rows * width]);
        } else if from >= end {
            tensor["data_offsets"] = json!([from - (end - start), to - (end - start)]);
        }
    }
    data.extend(&embedding);
    data.resize(offsets(&header[EMBEDDING])[1] as usize, 0);
    let header = header.to_string();
    let file = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat();
    std::fs::write(weights, file).unwrap();
    edit_json(&model.join("config.json"), |config| {
        config["vocab_size"] = json!(config["vocab_size"].as_u64().unwrap() + rows);
    });
}

/// Changes a JSON file.
pub fn edit_json(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}
