//! `--text-only`: the text model of one for several modalities.

mod common;

// numbers for random weights
#[path = "../../crates/model/tests/decoder/forward.rs"]
mod forward;
#[path = "../../tests/tests/families/models.rs"]
mod models;

use std::path::Path;

use common::{copy_tiny, says, slmc, stderr, tiny};
use models::Family;
use serde_json::{Value, json};
use slmc_checkpoint::{Checkpoint, CheckpointPlan, CheckpointWriter, Dtype, ExistingTarget, TensorSpec};

/// A text model inside a checkpoint for several modalities: its tensors renamed, one that sees beside them.
fn inside(text: &Checkpoint, directory: &Path, renamed: impl Fn(&str) -> String, sees: &str, config: &Value) {
    let mut specs: Vec<TensorSpec> = text
        .tensors()
        .map(|tensor| TensorSpec {
            name: renamed(&tensor.name),
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
        })
        .collect();
    specs.push(TensorSpec { name: sees.into(), dtype: Dtype::F32, shape: vec![2, 3] });
    let plan = CheckpointPlan::new(specs, u64::MAX).unwrap();
    let mut writer = CheckpointWriter::create(directory, plan, ExistingTarget::Refuse).unwrap();
    writer.copy_side_files(text).unwrap();
    let mut values = Vec::new();
    for tensor in text.tensors() {
        text.read_f32(&tensor.name, &mut values).unwrap();
        writer.write_f32(&renamed(&tensor.name), &values).unwrap();
    }
    writer.write_f32(sees, &[1.0; 6]).unwrap();
    writer.write_config(config).unwrap();
    writer.finish().unwrap();
}

/// The bundled model inside a Mistral 3 checkpoint.
fn whole(directory: &Path) {
    let text = Checkpoint::open(&tiny()).unwrap();
    let mut settings = text.config_json().clone();
    settings["model_type"] = "mistral".into();
    settings.as_object_mut().unwrap().remove("eos_token_id");
    let eos = text.config_json()["eos_token_id"].clone();
    let config = json!({"model_type": "mistral3", "architectures": ["Mistral3ForConditionalGeneration"],
        "eos_token_id": eos, "text_config": settings, "vision_config": {"model_type": "pixtral"}});
    let renamed = |name: &str| format!("language_model.{name}");
    inside(&text, directory, renamed, "vision_tower.patch_conv.weight", &config);
}

/// The same tensors and metadata, but for the name.
fn same_files(directory: &Path, [whole, alone]: [&str; 2]) {
    let read = |name: &str| slmc_gguf::container::GgufFile::open(&directory.join(name)).unwrap();
    let (whole, alone) = (read(whole), read(alone));
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
    same_files(directory.path(), ["whole.gguf", "alone.gguf"]);
}

/// Gemma 3 as it is published: settings nested, a tower that sees, tensors named in the older way and in the newer one. Its text model is
/// the model that it would be by itself, calibrated and measured.
#[test]
fn gemma_3_s_text_model_is_that_model_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let tokenizer = serde_json::from_slice(&std::fs::read(tiny().join("tokenizer.json")).unwrap()).unwrap();
    Family::Gemma3.write(&directory.join("alone"), &tokenizer, &json!({"eos_token": "<|endoftext|>"}));
    let alone = Checkpoint::open(&directory.join("alone")).unwrap();
    let mut settings = alone.config_json().clone();
    settings.as_object_mut().unwrap().remove("architectures");
    let config = json!({"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"], "torch_dtype": "float32",
        "text_config": settings, "vision_config": {"model_type": "siglip_vision_model"}, "mm_tokens_per_image": 256});
    let older = |name: &str| format!("language_model.{name}");
    let newer = |name: &str| name.replacen("model.", "model.language_model.", 1);
    inside(
        &alone,
        &directory.join("older"),
        older,
        "vision_tower.vision_model.post_layernorm.weight",
        &config,
    );
    inside(
        &alone,
        &directory.join("newer"),
        newer,
        "model.multi_modal_projector.mm_soft_emb_norm.weight",
        &config,
    );
    let done = |arguments: &[&str]| {
        let output = slmc(directory, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        output.stdout
    };
    let quantize = |model: &str, more: &[&str]| {
        let first =
            ["quantize", model, "--method", "awq+gptq", "--type", "q4_0", "--calibration", "bundled:english"];
        let sizes = ["--samples", "8", "--seq-len", "64", "--no-eval", "--output"];
        done(&[&first[..], &sizes, &[&format!("{model}.gguf")], more].concat());
    };
    let divergence = |model: &str, base: &str| {
        let arguments = ["eval", model, "--base", base, "--text", "bundled:english", "--n-ctx", "64"];
        let report = done(&[&arguments[..], &["--windows", "8", "--json"]].concat());
        let report: Value = serde_json::from_slice(&report).unwrap();
        report["kl_divergence"]["mean"].as_f64().unwrap()
    };
    quantize("alone", &[]);
    let lost = divergence("alone.gguf", "alone");
    assert!(lost > 1e-4, "{lost}");
    for model in ["older", "newer"] {
        // logit by logit: that of equal distributions is nothing
        assert_eq!(divergence(model, "alone"), 0.0, "{model}");
        quantize(model, &["--text-only"]);
        same_files(directory, [&format!("{model}.gguf"), "alone.gguf"]);
        assert_eq!(divergence(&format!("{model}.gguf"), model), lost, "{model}");
        let output = slmc(directory, ["quantize", model, "--method", "rtn", "--output", "refused.gguf"]);
        assert_eq!(output.status.code(), Some(1));
        let said =
            "a gemma3 model sees as well as reads; --text-only takes its text model and leaves the rest out";
        assert!(says(&stderr(&output), said), "{}", stderr(&output));
        assert!(!directory.join("refused.gguf").exists());
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
