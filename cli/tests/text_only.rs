//! `--text-only`: the text model of one for several modalities.

mod common;

use std::path::Path;

use common::{copy_tiny, says, slmc, stderr, tiny};
use serde_json::{Value, json};
use slmc_checkpoint::{Checkpoint, CheckpointPlan, CheckpointWriter, Dtype, ExistingTarget, TensorSpec};

/// The bundled model inside a Mistral 3 checkpoint: its settings nested, its tensors renamed, one that sees beside them.
fn whole(directory: &Path) {
    let text = Checkpoint::open(&tiny()).unwrap();
    let renamed = |name: &str| format!("language_model.{name}");
    let mut specs: Vec<TensorSpec> = text
        .tensors()
        .map(|tensor| TensorSpec {
            name: renamed(&tensor.name),
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
        })
        .collect();
    let sees = "vision_tower.patch_conv.weight";
    specs.push(TensorSpec { name: sees.into(), dtype: Dtype::F32, shape: vec![2, 3] });
    let plan = CheckpointPlan::new(specs, u64::MAX).unwrap();
    let mut writer = CheckpointWriter::create(directory, plan, ExistingTarget::Refuse).unwrap();
    writer.copy_side_files(&text).unwrap();
    let mut values = Vec::new();
    for tensor in text.tensors() {
        text.read_f32(&tensor.name, &mut values).unwrap();
        writer.write_f32(&renamed(&tensor.name), &values).unwrap();
    }
    writer.write_f32(sees, &[1.0; 6]).unwrap();
    let mut settings = text.config_json().clone();
    settings["model_type"] = "mistral".into();
    settings.as_object_mut().unwrap().remove("eos_token_id");
    let eos = text.config_json()["eos_token_id"].clone();
    writer
        .write_config(
            &json!({"model_type": "mistral3", "architectures": ["Mistral3ForConditionalGeneration"],
            "eos_token_id": eos, "text_config": settings, "vision_config": {"model_type": "pixtral"}}),
        )
        .unwrap();
    writer.finish().unwrap();
}

#[test]
fn the_text_model_is_taken_where_that_is_said() {
    let directory = tempfile::tempdir().unwrap();
    whole(&directory.path().join("whole"));
    let output = slmc(directory.path(), ["convert", "whole"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        says(&stderr(&output), "mistral3 model sees as well as reads; --text-only"),
        "{}",
        stderr(&output)
    );

    // the same weights as a text model by itself
    let alone = directory.path().join("alone");
    copy_tiny(&alone);
    let path = alone.join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["model_type"] = "mistral".into();
    config["architectures"] = json!(["MistralForCausalLM"]);
    std::fs::write(&path, config.to_string()).unwrap();
    for (model, more) in [("whole", &["--text-only"][..]), ("alone", &[])] {
        let file = format!("{model}.gguf");
        let arguments = [&["convert", model, "--output", &file], more].concat();
        let output = slmc(directory.path(), arguments);
        assert!(output.status.success(), "{}", stderr(&output));
    }
    let read = |name: &str| slmc_gguf::container::GgufFile::open(&directory.path().join(name)).unwrap();
    let (whole, alone) = (read("whole.gguf"), read("alone.gguf"));
    let names = |file: &slmc_gguf::container::GgufFile| -> Vec<String> {
        file.tensors().iter().map(|tensor| tensor.name.clone()).collect()
    };
    assert_eq!(names(&whole), names(&alone));
    for (a, b) in whole.tensors().iter().zip(alone.tensors()) {
        assert_eq!(whole.data(a), alone.data(b), "{}", a.name);
    }
    for (key, value) in alone.metadata().iter().filter(|(key, _)| *key != "general.name") {
        assert_eq!(whole.metadata().get(key), Some(value), "{key}");
    }
}

/// Reading takes the text model without a word, and what is pruned of it is a text model by itself.
#[test]
fn pruning_leaves_a_text_model() {
    let directory = tempfile::tempdir().unwrap();
    whole(&directory.path().join("whole"));
    let arguments = [
        "prune",
        "whole",
        "--text-only",
        "--method",
        "magnitude",
        "--sparsity",
        "0.1",
        "--output",
        "pruned",
        "--no-eval",
    ];
    let output = slmc(directory.path(), arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    let pruned = Checkpoint::open(&directory.path().join("pruned")).unwrap();
    assert_eq!(pruned.text_part_of(), None);
    assert_eq!(pruned.config().architectures, ["MistralForCausalLM"]);
    assert!(
        pruned.tensor("model.embed_tokens.weight").is_some()
            && pruned.tensor("vision_tower.patch_conv.weight").is_none()
    );
}
