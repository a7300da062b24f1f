//! Importance matrices through the command line: written, read back, refused.

mod common;

use std::path::{Path, PathBuf};
use std::process::Output;

use common::{listing, says, slmc, stderr, stdout, tiny};
use slmc_gguf::container::GgufFile;
use slmc_gguf::imatrix::ImportanceMatrix;

/// A file that llama-imatrix made of the bundled model.
fn llama_imatrix(extension: &str) -> PathBuf {
    let gguf = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("crates/gguf");
    gguf.join("tests/golden/llama_imatrix").with_extension(extension)
}

/// Runs a command on the bundled model.
fn on_tiny(directory: &Path, command: &str, arguments: &[&str]) -> Output {
    let model = tiny();
    slmc(directory, [&[command, model.to_str().unwrap()], arguments].concat())
}

/// As [`on_tiny`], and it must succeed; its messages.
fn done(directory: &Path, command: &str, arguments: &[&str]) -> String {
    let output = on_tiny(directory, command, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    stderr(&output)
}

const CALIBRATION: [&str; 6] = ["--calibration", "bundled:english", "--samples", "5", "--seq-len", "48"];

fn write_matrix(directory: &Path, output: &str) {
    done(directory, "imatrix", &[&CALIBRATION[..], &["--output", output]].concat());
}

#[test]
fn a_file_weighs_as_the_calibration_it_was_made_of() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    write_matrix(directory, "m.gguf");
    let matrix = ImportanceMatrix::read(&directory.join("m.gguf")).unwrap();
    assert_eq!((matrix.entries.len(), matrix.chunk_count, matrix.chunk_size), (4 * 7 + 1, 5, 48));
    assert_eq!(matrix.datasets, ["bundled:english"]);
    let entry = |name: &str| &matrix.entries[name];
    assert_eq!(entry("blk.1.attn_q.weight"), entry("blk.1.attn_v.weight"));
    assert_eq!(entry("blk.1.ffn_gate.weight"), entry("blk.1.ffn_up.weight"));
    assert_ne!(entry("blk.1.attn_q.weight"), entry("blk.2.attn_q.weight"));
    assert_eq!(entry("token_embd.weight").counts(), [5 * 48]);

    let quantize = ["--type", "q3_k_m", "--no-eval", "--output"];
    done(directory, "quantize", &[&quantize[..], &["file.gguf", "--imatrix", "m.gguf"]].concat());
    let direct = [&quantize[..], &["direct.gguf", "--method", "imatrix"], &CALIBRATION[..]].concat();
    done(directory, "quantize", &direct);
    let rtn = [&quantize[..], &["rtn.gguf", "--method", "rtn"]].concat();
    done(directory, "quantize", &rtn);
    let open = |name: &str| GgufFile::open(&directory.join(name)).unwrap();
    let (file, direct, rtn) = (open("file.gguf"), open("direct.gguf"), open("rtn.gguf"));
    let mut weighed = 0;
    for tensor in file.tensors() {
        let same = |other: &GgufFile| file.data(tensor) == other.data(other.tensor(&tensor.name).unwrap());
        assert!(same(&direct), "{}", tensor.name);
        weighed += usize::from(!same(&rtn));
    }
    assert_eq!(weighed, 4 * 7 + 1);

    // What it was made of is told, and the same calibration has the same hash.
    let recipe: serde_json::Value =
        serde_json::from_str(file.metadata().str("slmc.recipe").unwrap()).unwrap();
    assert_eq!(recipe["method"], "imatrix");
    assert_eq!(recipe["imatrix"]["datasets"], serde_json::json!(["bundled:english"]));
    assert_eq!(recipe["imatrix"]["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(recipe.get("samples"), None);
    let hash = |file: &GgufFile| file.metadata().str("slmc.calibration.sha256").unwrap().to_owned();
    assert_eq!(hash(&file), hash(&direct));
}

#[test]
fn the_bytes_do_not_depend_on_the_number_of_threads() {
    let directory = tempfile::tempdir().unwrap();
    let file = |threads: &str| {
        done(
            directory.path(),
            "imatrix",
            &[&CALIBRATION[..], &["--threads", threads, "-o", threads]].concat(),
        );
        std::fs::read(directory.path().join(threads)).unwrap()
    };
    let one = file("1");
    assert!(one == file("2") && one == file("3"));
}

#[test]
fn gguf_models_are_measured_and_all_of_a_text_can_be() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    done(directory, "convert", &["--output", "f16.gguf"]);
    let text = "A mill stood by the river, and the miller knew every stone of it.\n".repeat(60);
    std::fs::write(directory.join("mill.txt"), text).unwrap();
    let options = ["--calibration", "mill.txt", "--all", "--seq-len", "64", "--json"];
    let output = slmc(directory, [&["imatrix", "f16.gguf"], &options[..]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let report: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(report["output"], "f16.imatrix.gguf");
    assert_eq!(report["datasets"], serde_json::json!(["mill.txt"]));
    let matrix = ImportanceMatrix::read(&directory.join("f16.imatrix.gguf")).unwrap();
    let samples = report["samples"].as_u64().unwrap();
    assert!(samples > 10 && u64::from(matrix.chunk_count) == samples, "{samples}");
    assert_eq!(matrix.entries["blk.0.ffn_down.weight"].counts(), [64 * samples]);
    assert!(!says(&stderr(&output), "asked for"), "{}", stderr(&output));

    // The bundled model's checkpoint and its F16 file see the same, up to the rounding of activations.
    let checkpoint = [&options[..5], &["--output", "checkpoint.gguf"]].concat();
    done(directory, "imatrix", &checkpoint);
    let other = ImportanceMatrix::read(&directory.join("checkpoint.gguf")).unwrap();
    for (name, entry) in &matrix.entries {
        for (a, b) in entry.sums().iter().zip(other.entries[name].sums()) {
            assert!((a / b - 1.0).abs() < 0.01, "{name}: {a} and {b}");
        }
    }
}

#[test]
fn both_formats_of_llama_imatrix_are_taken() {
    let directory = tempfile::tempdir().unwrap();
    for extension in ["gguf", "dat"] {
        let file = llama_imatrix(extension);
        let arguments =
            ["--bits", "4", "--no-eval", "--output", extension, "--imatrix", file.to_str().unwrap()];
        let note = done(directory.path(), "quantize", &arguments);
        assert!(says(&note, "no entry for token_embd.weight"), "{note}");
        let written = GgufFile::open(&directory.path().join(extension)).unwrap();
        let recipe = written.metadata().str("slmc.recipe").unwrap();
        assert!(recipe.contains("\"datasets\":[\"english.txt\"]") && !recipe.contains('/'), "{recipe}");
    }
}

#[test]
fn only_the_method_that_it_suffices_for_takes_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = llama_imatrix("gguf");
    let quantize = |more: &[&str]| {
        let output =
            on_tiny(directory.path(), "quantize", &[&["--imatrix", file.to_str().unwrap()], more].concat());
        assert_eq!(output.status.code(), Some(2), "{more:?}: {}", stderr(&output));
        stderr(&output)
    };
    for (method, reason) in [
        ("rtn", "it weighs no errors"),
        ("awq", "on the activations themselves"),
        ("gptq", "the file holds the diagonal"),
        ("awq+gptq", "the activations themselves"),
    ] {
        let message = quantize(&["--method", method]);
        assert!(says(&message, reason) && says(&message, &format!("method {method}")), "{message}");
    }
    for option in [["--calibration", "bundled"], ["--samples", "3"], ["--seq-len", "64"], ["--seed", "1"]] {
        let message = quantize(&option);
        assert!(message.contains("cannot be used with") && message.contains(option[0]), "{message}");
    }
    // a method in the settings file gives way
    std::fs::write(directory.path().join("slmc.toml"), "[quantize]\nmethod = \"gptq\"\n").unwrap();
    let plan = done(directory.path(), "quantize", &["--imatrix", file.to_str().unwrap(), "--dry-run"]);
    assert_eq!(listing(directory.path()), ["slmc.toml"], "{plan}");
}

/// Quantizing with this file fails, and says all of `parts`.
#[track_caller]
fn refuses(directory: &Path, file: &[u8], more: &[&str], parts: &[&str]) {
    std::fs::write(directory.join("bad.imatrix"), file).unwrap();
    let arguments = ["--bits", "4", "--no-eval", "--imatrix", "bad.imatrix", "--output", "out.gguf"];
    let output = on_tiny(directory, "quantize", &[&arguments[..], more].concat());
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{message}");
    for part in [&["bad.imatrix"], parts].concat() {
        assert!(says(&message, part), "expected {part:?} in: {message}");
    }
    assert!(!directory.join("out.gguf").exists());
}

#[test]
fn files_that_do_not_fit_the_model_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let changed = |change: fn(&mut ImportanceMatrix)| {
        let mut matrix = ImportanceMatrix::read(&llama_imatrix("gguf")).unwrap();
        change(&mut matrix);
        matrix.write(&directory.join("changed.gguf")).unwrap();
        std::fs::read(directory.join("changed.gguf")).unwrap()
    };
    let lacking = changed(|matrix| {
        matrix.entries.remove("blk.2.attn_k.weight");
        matrix.datasets = vec!["/home/somebody/a.txt".into(), r"C:\texts\b.txt".into()];
    });
    refuses(directory, &lacking, &[], &["blk.2.attn_k.weight", "no entry", "--keep"]);
    let wide = changed(|matrix| {
        let down = matrix.entries["blk.0.ffn_down.weight"].clone();
        matrix.entries.insert("blk.0.ffn_up.weight".into(), down);
    });
    refuses(directory, &wide, &[], &["blk.0.ffn_up.weight", "found 512 values", "expected 256"]);
    let idle = changed(|matrix| {
        let nothing = slmc_gguf::imatrix::Entry::new(vec![0.0; 256], &[0.0]).unwrap();
        matrix.entries.insert("blk.0.attn_q.weight".into(), nothing);
    });
    refuses(directory, &idle, &[], &["blk.0.attn_q.weight", "saw no tokens"]);

    // a tensor that is not quantized needs no entry
    std::fs::write(directory.join("lacking.gguf"), lacking).unwrap();
    let arguments =
        ["--imatrix", "lacking.gguf", "--keep", r"blk\.2\.attn_k", "--no-eval", "-o", "kept.gguf"];
    done(directory, "quantize", &arguments);
    let kept = GgufFile::open(&directory.join("kept.gguf")).unwrap();
    let recipe = kept.metadata().str("slmc.recipe").unwrap();
    assert!(recipe.contains(r#""datasets":["a.txt","b.txt"]"#), "{recipe}");
}

#[test]
fn corrupt_files_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (gguf, legacy) =
        (std::fs::read(llama_imatrix("gguf")).unwrap(), std::fs::read(llama_imatrix("dat")).unwrap());
    refuses(directory, &gguf[..gguf.len() / 2], &[], &["beyond the data section"]);
    refuses(directory, &legacy[..legacy.len() / 2], &[], &["legacy imatrix"]);
    refuses(directory, b"not an importance matrix", &[], &["no GGUF file"]);
    refuses(directory, b"", &[], &["the number of entries"]);
    done(directory, "convert", &["--output", "model.gguf"]);
    let model = std::fs::read(directory.join("model.gguf")).unwrap();
    refuses(directory, &model, &[], &["general.type is \"model\"", "imatrix"]);

    let mut negative = gguf.clone();
    let last = negative.len() - 32; // the counts of the last entry, padded to the alignment
    negative[last..last + 4].copy_from_slice(&(-1f32).to_le_bytes());
    refuses(directory, &negative, &[], &["entry `blk.3.ffn_up.weight`", "count 0 is -1"]);
}

#[test]
fn the_model_is_not_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    done(directory.path(), "convert", &["--output", "model.gguf"]);
    let before = std::fs::read(directory.path().join("model.gguf")).unwrap();
    let output = slmc(directory.path(), ["imatrix", "model.gguf", "--output", "./model.gguf"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(says(&stderr(&output), "this is the model"), "{}", stderr(&output));
    assert!(std::fs::read(directory.path().join("model.gguf")).unwrap() == before);
}
