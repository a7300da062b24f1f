//! Whole files, of every family's tiny checkpoint.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};
use slmc_gguf::container::GgufFile;
use slmc_pipeline::jobs::quantize::{Mix, Prepared, QuantizeSettings};
use slmc_pipeline::progress::Silent;

use crate::listing::{Difference, Explained, assert_all_needed, differences, digest, theirs};

const EXPLAINED: [Explained; 11] = [
    ("tokenizer.ggml.eom_token_id", Difference::OnlyOurs, ""),
    ("general.name", Difference::Other, ""),
    ("attention.key_length", Difference::OnlyOurs, ""),
    ("attention.value_length", Difference::OnlyOurs, ""),
    ("rope.dimension_count", Difference::OnlyOurs, ""),
    ("vocab_size", Difference::OnlyOurs, ""),
    ("slmc.version", Difference::OnlyOurs, ""),
    ("slmc.recipe", Difference::OnlyOurs, ""),
    ("rope.freq_base", Difference::OnlyOurs, "gemma2"),
    ("attention.sliding_window_pattern", Difference::OnlyOurs, "gemma3"),
    ("rope.scaling.original_context_length", Difference::OnlyTheirs, "phi3"),
];

/// Classes that the converter does not know.
const UNKNOWN: [&str; 1] = ["ministral"];

fn cases() -> Vec<PathBuf> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/model/tests/golden");
    let entries = std::fs::read_dir(golden).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    cases.retain(|case| !UNKNOWN.iter().any(|class| name(case).starts_with(class)));
    cases.sort();
    cases
}

fn name(case: &Path) -> String {
    case.file_name().unwrap().to_string_lossy().into_owned()
}

/// The case with the tokenizer beside this file, as an F16 file; `None` of a model that llama.cpp cannot run as it is, which is
/// refused.
fn convert(case: &Path, dir: &Path) -> Option<GgufFile> {
    let model = dir.join(name(case));
    std::fs::create_dir(&model).unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(case.join(file), model.join(file)).unwrap();
    }
    std::fs::write(model.join("tokenizer.json"), include_str!("tokenizer.json")).unwrap();
    std::fs::write(model.join("tokenizer_config.json"), include_str!("tokenizer_config.json")).unwrap();
    let output = model.with_extension("gguf");
    let settings = QuantizeSettings::conversion(model, Mix::F16, output.clone(), None);
    match Prepared::new(settings) {
        Ok(prepared) => drop(prepared.run(&Silent).unwrap()),
        Err(error) if error.to_string().contains("llama.cpp cannot run") => return None,
        Err(error) => panic!("{}: {error}", name(case)),
    }
    Some(GgufFile::open(&output).unwrap())
}

#[test]
fn tensors_are_those_of_the_converter() {
    let dir = tempfile::tempdir().unwrap();
    for case in cases() {
        let Some(ours) = convert(&case, dir.path()) else { continue };
        let theirs: BTreeMap<String, Json> =
            serde_json::from_value(theirs(&name(&case))["tensors"].clone()).unwrap();
        let mut names: Vec<&str> = ours.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, theirs.keys().collect::<Vec<_>>(), "{}", name(&case));
        for tensor in ours.tensors() {
            let (theirs, data) = (&theirs[&tensor.name], ours.data(tensor));
            let mut entry = json!({"type": tensor.ty.name(), "shape": tensor.shape});
            match &theirs["values"] {
                // computed numbers, by the converter in single precision
                Json::Array(values) => {
                    let found = data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                    let near = |(a, b): (f32, &Json)| (f64::from(a) / b.as_f64().unwrap() - 1.0).abs() < 1e-5;
                    assert!(found.zip(values).all(near), "{}, {}", name(&case), tensor.name);
                    entry["values"] = theirs["values"].clone();
                }
                _ => entry["sha256"] = digest(data).into(),
            }
            assert_eq!(entry, *theirs, "{}, {}", name(&case), tensor.name);
        }
    }
}

#[test]
fn metadata_differs_where_it_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    let mut found = Vec::new();
    for case in cases() {
        let (case_name, Some(ours)) = (name(&case), convert(&case, dir.path())) else { continue };
        found.extend(differences(&case_name, ours.metadata(), &theirs(&case_name), &EXPLAINED));
    }
    let names: Vec<String> = cases().iter().map(|case| name(case)).collect();
    assert_all_needed(&found, &EXPLAINED, &names);
}
