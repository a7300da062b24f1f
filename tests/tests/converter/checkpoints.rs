//! Whole files, of every family's tiny checkpoint.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};
use slmc_gguf::container::GgufFile;
use slmc_pipeline::jobs::quantize::{Mix, Prepared, QuantizeSettings};
use slmc_pipeline::progress::Silent;

use crate::listing::{Difference, Explained, assert_all_needed, differences, digest, theirs};

const EXPLAINED: [Explained; 8] = [
    ("general.name", Difference::Other),
    ("attention.key_length", Difference::OnlyOurs),
    ("attention.value_length", Difference::OnlyOurs),
    ("rope.dimension_count", Difference::OnlyOurs),
    ("vocab_size", Difference::OnlyOurs),
    ("slmc.version", Difference::OnlyOurs),
    ("slmc.recipe", Difference::OnlyOurs),
    ("general.size_label", Difference::Other),
];

fn cases() -> Vec<PathBuf> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/model/tests/golden");
    let entries = std::fs::read_dir(golden).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    cases.sort();
    cases
}

fn name(case: &Path) -> String {
    case.file_name().unwrap().to_string_lossy().into_owned()
}

/// The case with the tokenizer beside this file, as an F16 file.
fn convert(case: &Path, dir: &Path) -> GgufFile {
    let model = dir.join(name(case));
    std::fs::create_dir(&model).unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(case.join(file), model.join(file)).unwrap();
    }
    std::fs::write(model.join("tokenizer.json"), include_str!("tokenizer.json")).unwrap();
    std::fs::write(model.join("tokenizer_config.json"), include_str!("tokenizer_config.json")).unwrap();
    let output = model.with_extension("gguf");
    let settings = QuantizeSettings::conversion(model, Mix::F16, output.clone(), None);
    Prepared::new(settings).unwrap().run(&Silent).unwrap();
    GgufFile::open(&output).unwrap()
}

#[test]
fn tensors_are_those_of_the_converter() {
    let dir = tempfile::tempdir().unwrap();
    for case in cases() {
        let ours = convert(&case, dir.path());
        let listed: BTreeMap<String, Json> = ours
            .tensors()
            .iter()
            .map(|tensor| {
                let digest = digest(ours.data(tensor));
                (
                    tensor.name.clone(),
                    json!({"type": tensor.ty.name(), "shape": tensor.shape, "sha256": digest}),
                )
            })
            .collect();
        let theirs: BTreeMap<String, Json> =
            serde_json::from_value(theirs(&name(&case))["tensors"].clone()).unwrap();
        let names = |all: &BTreeMap<String, Json>| all.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&listed), names(&theirs), "{}", name(&case));
        for (tensor, entry) in &listed {
            assert_eq!(*entry, theirs[tensor], "{}, {tensor}", name(&case));
        }
    }
}

#[test]
fn metadata_differs_where_it_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    let mut found = Vec::new();
    for case in cases() {
        let (name, ours) = (name(&case), convert(&case, dir.path()));
        found.extend(differences(&name, ours.metadata(), &theirs(&name), &EXPLAINED));
    }
    assert_all_needed(&found, &EXPLAINED);
}
