//! Broken checkpoints: each gets a clear error that names the thing, exit code 1, and leaves nothing behind.

mod common;

use std::path::Path;

use common::{copy_tiny, listing, says, slmc, stderr};
use serde_json::{Value, json};

const WEIGHTS: &str = "model.safetensors";

/// Quantizes a corrupted copy of the bundled model and checks how that fails.
#[track_caller]
fn refuses(corrupt: impl FnOnce(&Path), expected: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    let model = directory.path().join("model");
    copy_tiny(&model);
    corrupt(&model);
    let arguments =
        ["quantize", "model", "--method", "rtn", "--bits", "8", "--no-eval", "--output", "out.gguf"];
    let output = slmc(directory.path(), arguments);
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{message}");
    for part in expected {
        assert!(says(&message, part), "expected {part:?} in: {message}");
    }
    assert!(!message.contains("panicked"), "{message}");
    assert_eq!(listing(directory.path()), ["model"], "something was left behind");
}

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

/// Changes the header of the weight file; the data stays.
fn edit_header(model: &Path, change: impl FnOnce(&mut Value)) {
    edit(&model.join(WEIGHTS), |bytes| {
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let mut header = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        change(&mut header);
        replace_header(bytes, length, &header.to_string());
    });
}

fn replace_header(bytes: &mut Vec<u8>, old_length: usize, header: &str) {
    let data = bytes.split_off(8 + old_length);
    bytes.clear();
    bytes.extend((header.len() as u64).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
}

fn edit_json(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

/// Writes `value` over the first element of a tensor (the bundled model is F16).
fn poison(model: &Path, tensor: &str, value: [u8; 2]) {
    edit(&model.join(WEIGHTS), |bytes| {
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        let at = 8 + length + header[tensor]["data_offsets"][0].as_u64().unwrap() as usize;
        bytes[at..at + 2].copy_from_slice(&value);
    });
}

const QUERY: &str = "model.layers.0.self_attn.q_proj.weight";
const KEY: &str = "model.layers.0.self_attn.k_proj.weight";

#[test]
fn weight_files_cut_short() {
    refuses(|m| edit(&m.join(WEIGHTS), |b| b.truncate(b.len() / 2)), &[WEIGHTS]);
    refuses(|m| edit(&m.join(WEIGHTS), |b| b.truncate(b.len() - 1)), &[WEIGHTS]);
    refuses(|m| edit(&m.join(WEIGHTS), |b| b.truncate(100)), &[WEIGHTS]);
    refuses(|m| edit(&m.join(WEIGHTS), |b| b.truncate(5)), &[WEIGHTS]);
    refuses(|m| edit(&m.join(WEIGHTS), Vec::clear), &[WEIGHTS]);
}

#[test]
fn header_lengths_out_of_range() {
    refuses(|m| edit(&m.join(WEIGHTS), |b| b[..8].fill(0xff)), &[WEIGHTS]);
    refuses(|m| edit(&m.join(WEIGHTS), |b| b[..8].copy_from_slice(&(1u64 << 62).to_le_bytes())), &[WEIGHTS]);
    refuses(|m| edit(&m.join(WEIGHTS), |b| b[..8].fill(0)), &[WEIGHTS]);
}

#[test]
fn headers_that_are_no_header() {
    refuses(|m| edit(&m.join(WEIGHTS), |b| b[8] = b'x'), &[WEIGHTS]);
    refuses(|m| edit(&m.join(WEIGHTS), |b| b[20] = 0xff), &[WEIGHTS]);
    refuses(|m| edit_header(m, |h| *h = json!([1, 2])), &[WEIGHTS]);
}

#[test]
fn data_offsets_that_lie() {
    refuses(|m| edit_header(m, |h| h[QUERY]["data_offsets"][1] = json!(u64::MAX)), &[WEIGHTS, QUERY]);
    refuses(|m| edit_header(m, |h| h[QUERY]["data_offsets"] = json!([1000, 10])), &[WEIGHTS, QUERY]);
    refuses(|m| edit_header(m, |h| h[QUERY]["data_offsets"] = h[KEY]["data_offsets"].clone()), &[WEIGHTS]);
    refuses(
        |m| {
            edit_header(m, |h| {
                let begin = h[QUERY]["data_offsets"][0].as_u64().unwrap() - 64;
                let end = h[QUERY]["data_offsets"][1].as_u64().unwrap() - 64;
                h[QUERY]["data_offsets"] = json!([begin, end]);
            });
        },
        &[WEIGHTS],
    );
}

#[test]
fn types_and_shapes_that_do_not_fit() {
    refuses(|m| edit_header(m, |h| h[QUERY]["dtype"] = json!("I8")), &[WEIGHTS, QUERY]);
    refuses(|m| edit_header(m, |h| h[QUERY]["dtype"] = json!("F32")), &[WEIGHTS, QUERY]);
    refuses(|m| edit_header(m, |h| h[QUERY]["dtype"] = json!("X9")), &[WEIGHTS]);
    refuses(|m| edit_header(m, |h| h[QUERY]["shape"] = json!([u64::MAX, u64::MAX])), &[WEIGHTS]);
    refuses(|m| edit_header(m, |h| h[QUERY]["shape"] = json!([512, 128])), &[QUERY, "512, 128", "256, 256"]);
}

#[test]
fn tensors_missing_or_doubled() {
    refuses(
        |m| {
            edit_header(m, |h| {
                let entry = h.as_object_mut().unwrap().remove(QUERY).unwrap();
                h["model.layers.0.self_attn.other.weight"] = entry;
            });
        },
        &[QUERY],
    );
    refuses(
        |m| {
            edit(&m.join(WEIGHTS), |bytes| {
                let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
                let header = String::from_utf8(bytes[8..8 + length].to_vec()).unwrap();
                let header = header.replacen(KEY, QUERY, 1);
                replace_header(bytes, length, &header);
            });
        },
        &[WEIGHTS],
    );
}

#[test]
fn weights_that_are_not_finite() {
    refuses(|m| poison(m, QUERY, [0x00, 0x7e]), &[QUERY, "NaN"]);
    refuses(|m| poison(m, "model.norm.weight", [0x00, 0x7c]), &["model.norm.weight", "inf"]);
}

fn sharded(model: &Path, shard: &str) {
    let index = json!({ "metadata": {}, "weight_map": { QUERY: shard } });
    std::fs::rename(model.join(WEIGHTS), model.join("model-00001-of-00001.safetensors")).unwrap();
    std::fs::write(model.join("model.safetensors.index.json"), index.to_string()).unwrap();
}

#[test]
fn shard_indexes_that_lie() {
    refuses(|m| sharded(m, "../model.safetensors"), &["../model.safetensors"]);
    refuses(|m| sharded(m, "/etc/hostname"), &["/etc/hostname"]);
    refuses(|m| sharded(m, "missing.safetensors"), &["missing.safetensors"]);
    refuses(
        |m| {
            sharded(m, "model-00001-of-00001.safetensors");
            edit_json(&m.join("model.safetensors.index.json"), |v| {
                v["weight_map"]["model.layers.9.ghost.weight"] = json!("model-00001-of-00001.safetensors");
            });
        },
        &["model.layers.9.ghost.weight"],
    );
}

#[test]
fn configurations_that_do_not_hold() {
    let config = |m: &Path| m.join("config.json");
    refuses(|m| std::fs::remove_file(config(m)).unwrap(), &["config.json"]);
    refuses(|m| std::fs::write(config(m), "{").unwrap(), &["config.json"]);
    refuses(|m| edit_json(&config(m), |c| c["num_attention_heads"] = json!(0)), &["num_attention_heads"]);
    refuses(|m| edit_json(&config(m), |c| c["hidden_size"] = json!("wide")), &["hidden_size"]);
    refuses(|m| edit_json(&config(m), |c| c["model_type"] = json!("mamba")), &["mamba", "llama"]);
    refuses(
        |m| edit_json(&config(m), |c| c["vocab_size"] = json!(1_000_000)),
        &["model.embed_tokens.weight"],
    );
    refuses(
        |m| edit_json(&config(m), |c| c["rope_parameters"] = json!({ "rope_type": "yarn", "factor": 4.0 })),
        &["yarn"],
    );
}

#[test]
fn tokenizers_that_do_not_fit() {
    let tokenizer = |m: &Path| m.join("tokenizer.json");
    refuses(|m| std::fs::remove_file(tokenizer(m)).unwrap(), &["tokenizer.json"]);
    refuses(|m| std::fs::write(tokenizer(m), "[]").unwrap(), &["tokenizer.json"]);
    refuses(
        |m| edit_json(&tokenizer(m), |t| t["model"]["vocab"]["surplus token"] = json!(5000)),
        &["tokenizer.json"],
    );
}

#[test]
fn what_is_no_checkpoint() {
    refuses(|m| std::fs::remove_file(m.join(WEIGHTS)).unwrap(), &["safetensors"]);
    let directory = tempfile::tempdir().unwrap();
    let output = slmc(directory.path(), ["quantize", "nowhere", "--bits", "4"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("nowhere"));
}
