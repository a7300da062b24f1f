//! Broken GGUF files: each gets a clear error that names the file, exit code 1, and no panic.

mod common;

use std::path::Path;
use std::sync::OnceLock;

use common::{says, slmc, stderr, tiny};

/// A sound file, made once.
fn sound() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let model = tiny();
        let output = slmc(
            directory.path(),
            [
                "quantize".as_ref(),
                model.as_os_str(),
                "--method".as_ref(),
                "rtn".as_ref(),
                "--bits".as_ref(),
                "4".as_ref(),
                "--no-eval".as_ref(),
                "--output".as_ref(),
                "sound.gguf".as_ref(),
            ],
        );
        assert!(output.status.success(), "{}", stderr(&output));
        std::fs::read(directory.path().join("sound.gguf")).unwrap()
    })
}

fn evaluate(directory: &Path, bytes: &[u8]) -> std::process::Output {
    std::fs::write(directory.join("broken.gguf"), bytes).unwrap();
    let text = "Once there was a small model. ".repeat(400);
    std::fs::write(directory.join("text.txt"), text).unwrap();
    slmc(directory, ["eval", "broken.gguf", "--text", "text.txt", "--n-ctx", "64"])
}

#[track_caller]
fn refuses(corrupt: impl FnOnce(&mut Vec<u8>), expected: &str) {
    let directory = tempfile::tempdir().unwrap();
    let mut bytes = sound().to_vec();
    corrupt(&mut bytes);
    let output = evaluate(directory.path(), &bytes);
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(says(&message, "broken.gguf"), "{message}");
    assert!(says(&message, expected), "expected {expected:?} in: {message}");
    assert!(!message.contains("panicked"), "{message}");
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// Where the bytes behind a length-prefixed string begin.
fn behind(bytes: &[u8], text: &str) -> usize {
    let mut needle = (text.len() as u64).to_le_bytes().to_vec();
    needle.extend(text.as_bytes());
    bytes.windows(needle.len()).position(|w| w == needle).expect("the file has this string") + needle.len()
}

/// Positions of a matrix's entry in the tensor directory: dimension count, dimensions, type, offset.
struct Entry {
    rank: usize,
    dimensions: usize,
    ty: usize,
    offset: usize,
}

fn entry(bytes: &[u8], name: &str) -> Entry {
    let rank = behind(bytes, name);
    Entry { rank, dimensions: rank + 4, ty: rank + 20, offset: rank + 24 }
}

const QUERY: &str = "blk.0.attn_q.weight";

#[test]
fn the_sound_file_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let output = evaluate(directory.path(), sound());
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn what_is_no_gguf() {
    refuses(|b| put(b, 0, b"GGML"), "");
    refuses(|b| put(b, 4, &99u32.to_le_bytes()), "99");
    refuses(Vec::clear, "");
    refuses(|b| b.fill(0), "");
}

#[test]
fn files_cut_short() {
    refuses(|b| b.truncate(10), "");
    refuses(|b| b.truncate(200), "");
    refuses(
        |b| {
            let at = behind(b, QUERY);
            b.truncate(at)
        },
        "",
    );
    refuses(|b| b.truncate(b.len() / 2), "");
    refuses(|b| b.truncate(b.len() - 4096), "");
}

#[test]
fn counts_and_lengths_out_of_range() {
    refuses(|b| put(b, 8, &u64::MAX.to_le_bytes()), "");
    refuses(|b| put(b, 16, &u64::MAX.to_le_bytes()), "");
    refuses(|b| put(b, 24, &u64::MAX.to_le_bytes()), "");
    refuses(
        |b| {
            let at = behind(b, "tokenizer.ggml.tokens");
            put(b, at + 8, &(1u64 << 60).to_le_bytes())
        },
        "tokenizer.ggml.tokens",
    );
    refuses(
        |b| {
            let at = behind(b, "general.name");
            put(b, at, &77u32.to_le_bytes())
        },
        "general.name",
    );
}

#[test]
fn metadata_that_does_not_hold() {
    refuses(
        |b| {
            let at = behind(b, "llama.block_count");
            put(b, at + 4, &9u32.to_le_bytes())
        },
        "",
    );
    refuses(
        |b| {
            let at = behind(b, "llama.attention.head_count");
            put(b, at + 4, &0u32.to_le_bytes())
        },
        "head_count",
    );
    refuses(
        |b| {
            let at = behind(b, "llama.embedding_length");
            put(b, at - 1, b"X")
        },
        "embedding_length",
    );
    refuses(
        |b| {
            let at = behind(b, "general.architecture");
            put(b, at + 12, b"mamba")
        },
        "mamba",
    );
}

#[test]
fn tensor_entries_that_lie() {
    refuses(
        |b| {
            let e = entry(b, QUERY);
            put(b, e.rank, &9u32.to_le_bytes())
        },
        QUERY,
    );
    refuses(
        |b| {
            let e = entry(b, QUERY);
            put(b, e.dimensions, &0u64.to_le_bytes())
        },
        QUERY,
    );
    refuses(
        |b| {
            let e = entry(b, QUERY);
            put(b, e.dimensions, &u64::MAX.to_le_bytes())
        },
        QUERY,
    );
    refuses(
        |b| {
            let e = entry(b, QUERY);
            put(b, e.dimensions, &100u64.to_le_bytes())
        },
        QUERY,
    );
    refuses(
        |b| {
            let e = entry(b, QUERY);
            put(b, e.ty, &16u32.to_le_bytes())
        },
        QUERY,
    );
    refuses(
        |b| {
            let e = entry(b, QUERY);
            put(b, e.ty, &4000u32.to_le_bytes())
        },
        QUERY,
    );
    refuses(
        |b| {
            let e = entry(b, QUERY);
            put(b, e.offset, &(1u64 << 40).to_le_bytes())
        },
        QUERY,
    );
    refuses(
        |b| {
            let e = entry(b, QUERY);
            put(b, e.offset, &7u64.to_le_bytes())
        },
        QUERY,
    );
    refuses(
        |b| {
            let e = entry(b, QUERY);
            put(b, e.offset, &0u64.to_le_bytes())
        },
        "",
    );
}

#[test]
fn tensors_missing_or_doubled() {
    refuses(
        |b| {
            let at = behind(b, QUERY);
            put(b, at - QUERY.len(), b"blk.0.attn_x.weight")
        },
        QUERY,
    );
    refuses(
        |b| {
            let at = behind(b, "blk.0.attn_k.weight");
            put(b, at - QUERY.len(), QUERY.as_bytes())
        },
        QUERY,
    );
}

#[test]
fn scales_that_are_not_finite() {
    refuses(
        |b| {
            // the data of the query matrix is K-quantized: its first two bytes are the f16 super-scale
            let e = entry(b, QUERY);
            let offset = u64::from_le_bytes(b[e.offset..e.offset + 8].try_into().unwrap()) as usize;
            let begin = data_begin(b);
            put(b, begin + offset, &[0x00, 0x7e]);
        },
        QUERY,
    );
}

/// The data section: from the end of the file, the last tensor's data reaches to the end.
fn data_begin(bytes: &[u8]) -> usize {
    let file = slmc_gguf::container::Header::parse(bytes).expect("the sound file");
    file.data_offset as usize
}
