//! What is written is read back, by this crate and by the reference reader.

mod directory;

use std::path::Path;

use directory::{Directory, config, safetensors};
use half::{bf16, f16};
use proptest::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::json;
use slmc_checkpoint::{
    Checkpoint, CheckpointPlan, CheckpointWriter, Dtype, ExistingTarget, TensorSpec, WriteError,
};

fn spec(name: &str, dtype: Dtype, shape: &[usize]) -> TensorSpec {
    TensorSpec { name: name.into(), dtype, shape: shape.to_vec() }
}

fn plan(specs: &[TensorSpec], shard_bytes: u64) -> CheckpointPlan {
    CheckpointPlan::new(specs.to_vec(), shard_bytes).unwrap()
}

fn rounded(dtype: Dtype, value: f32) -> f32 {
    match dtype {
        Dtype::F16 => f16::from_f32(value).to_f32(),
        Dtype::BF16 => bf16::from_f32(value).to_f32(),
        Dtype::F32 | Dtype::I32 | Dtype::I64 => value,
    }
}

fn entries(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

fn tensors() -> impl Strategy<Value = Vec<(Dtype, Vec<usize>, Vec<f32>)>> {
    let dtype = prop::sample::select(Dtype::FLOATS.to_vec());
    let shape = prop::collection::vec(0usize..6, 0..4);
    let tensor = (dtype, shape).prop_flat_map(|(dtype, shape)| {
        let values = prop::collection::vec(-60_000.0f32..60_000.0, shape.iter().product::<usize>());
        values.prop_map(move |values| (dtype, shape.clone(), values))
    });
    prop::collection::vec(tensor, 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Any tensors, in any number of shards, in parts in any order: read back they are the values rounded to
    /// their dtype, whole and by rows, and the reference reader agrees byte for byte.
    #[test]
    fn written_tensors_are_read_back(tensors in tensors(), shard_bytes in 1u64..400, cut in 0usize..50) {
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("out");
        let name = |n: usize| format!("model.layers.{n}.weight");
        let specs: Vec<_> = tensors.iter().enumerate().map(|(n, t)| spec(&name(n), t.0, &t.1)).collect();
        let plan = plan(&specs, shard_bytes);
        let total = plan.total_bytes();
        let mut writer = CheckpointWriter::create(&target, plan, ExistingTarget::Refuse).unwrap();
        for (n, (_, _, values)) in tensors.iter().enumerate().rev() {
            let cut = cut.min(values.len());
            writer.write_values_f32(&name(n), cut, &values[cut..]).unwrap();
            writer.write_values_f32(&name(n), 0, &values[..cut]).unwrap();
        }
        writer.write_config(&config()).unwrap();
        writer.finish().unwrap();

        let checkpoint = Checkpoint::open(&target).unwrap();
        prop_assert_eq!(checkpoint.tensors().len(), tensors.len());
        let sizes = checkpoint.weight_files().map(|file| std::fs::metadata(file).unwrap().len());
        prop_assert_eq!(sizes.sum::<u64>(), total);
        for (n, (dtype, shape, values)) in tensors.iter().enumerate() {
            let expected: Vec<f32> = values.iter().map(|v| rounded(*dtype, *v)).collect();
            let info = checkpoint.tensor(&name(n)).unwrap();
            prop_assert_eq!((info.dtype, &info.shape), (*dtype, shape));
            let mut read = Vec::new();
            checkpoint.read_f32(&name(n), &mut read).unwrap();
            prop_assert_eq!(&read, &expected);
            let rows = info.rows() / 3..info.rows();
            let mut part = vec![0.0; rows.len() * info.row_elements()];
            checkpoint.read_rows_f32(&name(n), rows.clone(), &mut part).unwrap();
            prop_assert_eq!(&part[..], &expected[rows.start * info.row_elements()..]);
            checkpoint.release_rows(&name(n), rows).unwrap();
            checkpoint.release(&name(n)).unwrap();
            let file = std::fs::read(checkpoint.file_of(&name(n)).unwrap()).unwrap();
            let reference = SafeTensors::deserialize(&file).unwrap();
            prop_assert_eq!(reference.tensor(&name(n)).unwrap().data(), checkpoint.bytes(&name(n)).unwrap());
            checkpoint.read_f32(&name(n), &mut read).unwrap();
            prop_assert_eq!(&read, &expected, "after releasing");
        }
    }

    /// The reference writer's files are read.
    #[test]
    fn reference_files_are_read(tensors in tensors()) {
        let data: Vec<Vec<u8>> = tensors.iter().map(|(dtype, _, values)| {
            let mut bytes = vec![0; values.len() * dtype.bytes()];
            slmc_checkpoint::convert::from_f32(*dtype, values, &mut bytes).unwrap();
            bytes
        }).collect();
        let views = tensors.iter().zip(&data).enumerate().map(|(n, ((dtype, shape, _), data))| {
            let dtype = match dtype {
                Dtype::F16 => safetensors::Dtype::F16,
                Dtype::BF16 => safetensors::Dtype::BF16,
                Dtype::F32 => safetensors::Dtype::F32,
                Dtype::I32 => safetensors::Dtype::I32,
                Dtype::I64 => safetensors::Dtype::I64,
            };
            (format!("t{n}"), TensorView::new(dtype, shape.clone(), data).unwrap())
        });
        let file = safetensors::serialize(views, None).unwrap();
        let directory = Directory::with_model(&file);
        let checkpoint = directory.open().unwrap();
        for (n, data) in data.iter().enumerate() {
            prop_assert_eq!(checkpoint.bytes(&format!("t{n}")).unwrap(), &data[..]);
        }
    }

    /// Whatever the bytes, opening them does not panic, and what opens can be read whole.
    #[test]
    fn arbitrary_headers_do_not_panic(header in "\\PC{0,60}", data in prop::collection::vec(any::<u8>(), 0..40)) {
        let _ = slmc_checkpoint::Header::parse(&safetensors(&header, &data));
        let _ = slmc_checkpoint::Header::parse(&data);
    }
}

/// The bundled model reads whole, and agrees with the reference reader.
#[test]
fn the_bundled_model_is_read() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny");
    let checkpoint = Checkpoint::open(&dir).unwrap();
    let file = std::fs::read(dir.join("model.safetensors")).unwrap();
    let reference = SafeTensors::deserialize(&file).unwrap();
    assert_eq!(checkpoint.tensors().len(), reference.len());
    let mut values = Vec::new();
    for info in checkpoint.tensors() {
        checkpoint.read_f32(&info.name, &mut values).unwrap();
        let expected = reference.tensor(&info.name).unwrap();
        let expected = expected.data().chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32());
        assert_eq!(info.dtype, Dtype::F16);
        assert!(values.iter().copied().eq(expected), "{}", info.name);
    }
    let config = checkpoint.config();
    let embedding = checkpoint.tensor("model.embed_tokens.weight").unwrap();
    assert_eq!(embedding.shape, [config.vocab_size, config.hidden_size]);
    assert!(checkpoint.tokenizer_json().unwrap().is_object());
}

#[test]
fn shards_are_named_and_limited() {
    let specs = ["a", "b", "c", "d"].map(|name| spec(name, Dtype::F32, &[10]));
    let names = |limit| plan(&specs, limit).files().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(names(160), ["model.safetensors"]);
    assert_eq!(names(80), ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]);
    assert_eq!(names(1).len(), 4);
}

#[test]
fn tokenizer_files_come_along() {
    let source = Directory::with_model(&safetensors("{}", b""));
    source.write("tokenizer.json", b"{\"version\": \"1.0\"}");
    source.write("tokenizer_config.json", br#"{"chat_template": "{{ messages }}"}"#);
    source.write("generation_config.json", b"{\"eos_token_id\": 2}");
    source.write("README.md", b"not taken along");
    std::fs::create_dir(source.path().join("additional_chat_templates")).unwrap();
    source.write("additional_chat_templates/tool_use.jinja", b"tools");
    source.write("additional_chat_templates/notes.txt", b"not taken along");
    let checkpoint = source.open().unwrap();
    assert_eq!(checkpoint.chat_template().unwrap().as_deref(), Some("{{ messages }}"));
    let parent = tempfile::tempdir().unwrap();
    let target = parent.path().join("out");
    let one = [spec("x", Dtype::BF16, &[2])];
    let mut writer = CheckpointWriter::create(&target, plan(&one, 100), ExistingTarget::Refuse).unwrap();
    writer.write_f32("x", &[1.0, -2.0]).unwrap();
    writer.write_config(checkpoint.config_json()).unwrap();
    writer.copy_side_files(&checkpoint).unwrap();
    writer.write_json("generation_config.json", &json!({"eos_token_id": 3})).unwrap();
    writer.finish().unwrap();
    let expected = [
        "additional_chat_templates",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(entries(&target), expected);
    assert_eq!(entries(&target.join("additional_chat_templates")), ["tool_use.jinja"]);
    let written = Checkpoint::open(&target).unwrap();
    assert_eq!(written.config(), checkpoint.config());
    let templates = [("tool_use".to_owned(), "tools".to_owned())];
    assert_eq!(written.additional_chat_templates().unwrap(), templates);
    assert_eq!(written.tokenizer_json().unwrap(), checkpoint.tokenizer_json().unwrap());
    assert_eq!(written.tokenizer_config().unwrap(), checkpoint.tokenizer_config().unwrap());
    assert_eq!(written.generation_config().unwrap(), Some(json!({"eos_token_id": 3})));
    // such a directory may be replaced
    let mut writer = CheckpointWriter::create(&target, plan(&one, 100), ExistingTarget::Replace).unwrap();
    writer.write_f32("x", &[1.0, -2.0]).unwrap();
    writer.write_config(checkpoint.config_json()).unwrap();
    writer.copy_side_files(&checkpoint).unwrap();
    writer.finish().unwrap();
    assert_eq!(entries(&target), expected);
}

#[test]
fn chat_templates_in_every_place() {
    let directory = Directory::with_model(&safetensors("{}", b""));
    let template = || directory.open().unwrap().chat_template();
    assert_eq!(template().unwrap(), None);
    directory.write("chat_template.json", br#"{"chat_template": "old"}"#);
    assert_eq!(template().unwrap().as_deref(), Some("old"));
    let named = br#"{"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]}"#;
    directory.write("tokenizer_config.json", named);
    assert_eq!(template().unwrap().as_deref(), Some("d"));
    directory.write("chat_template.jinja", b"file");
    assert_eq!(template().unwrap().as_deref(), Some("file"));
    std::fs::remove_file(directory.path().join("chat_template.jinja")).unwrap();
    directory.write("tokenizer_config.json", br#"{"chat_template": [{"name": "rag", "template": "t"}]}"#);
    assert!(template().unwrap_err().to_string().contains("rag"));
}

/// Nothing is at the target, or beside it, when a writer is dropped or refuses to finish.
#[test]
fn unfinished_checkpoints_leave_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let target = parent.path().join("out");
    let two = [spec("x", Dtype::F32, &[2]), spec("y", Dtype::F32, &[2])];
    let create = || CheckpointWriter::create(&target, plan(&two, 8), ExistingTarget::Refuse).unwrap();
    let mut writer = create();
    writer.write_f32("x", &[0.0; 2]).unwrap();
    assert!(!target.exists());
    drop(writer);
    assert!(entries(parent.path()).is_empty());

    let mut writer = create();
    writer.write_f32("x", &[0.0; 2]).unwrap();
    writer.write_values_f32("y", 1, &[0.0]).unwrap();
    let found = writer.finish().unwrap_err();
    assert!(matches!(&found, WriteError::Incomplete { tensor, found: 4, expected: 8 } if tensor == "y"));
    let mut writer = create();
    writer.write_f32("x", &[0.0; 2]).unwrap();
    writer.write_f32("y", &[0.0; 2]).unwrap();
    assert!(matches!(writer.finish(), Err(WriteError::NoConfig)));
    assert!(entries(parent.path()).is_empty());
}

#[test]
fn wrong_writes_are_refused() {
    let parent = tempfile::tempdir().unwrap();
    let one = [spec("x", Dtype::F16, &[2, 2])];
    let target = parent.path().join("out");
    let mut writer = CheckpointWriter::create(&target, plan(&one, 100), ExistingTarget::Refuse).unwrap();
    assert!(matches!(writer.write_f32("y", &[]), Err(WriteError::NotPlanned { .. })));
    assert!(matches!(writer.write_f32("x", &[0.0; 3]), Err(WriteError::OutOfRange { expected: 4, .. })));
    assert!(matches!(writer.write_bytes("x", &[0; 6]), Err(WriteError::OutOfRange { .. })));
    let beyond = writer.write_values_f32("x", usize::MAX, &[0.0]);
    assert!(matches!(beyond, Err(WriteError::OutOfRange { .. })));
    let overflow = writer.write_f32("x", &[0.0, 1e6, 0.0, 0.0]);
    assert!(matches!(overflow, Err(WriteError::NonFinite { index: 1, .. })));
    writer.write_values_f32("x", 2, &[0.0]).unwrap();
    let twice = writer.write_values_f32("x", 1, &[0.0; 2]);
    assert!(matches!(twice, Err(WriteError::WrittenTwice { first: 1, .. })));
    for name in ["../x", "model.safetensors", ""] {
        assert!(matches!(writer.write_file(name, b""), Err(WriteError::BadFileName { .. })));
    }
    let bad_plan = |specs: &[TensorSpec]| CheckpointPlan::new(specs.to_vec(), 100).unwrap_err();
    assert!(matches!(bad_plan(&[]), WriteError::NoTensors));
    assert!(matches!(bad_plan(&[one[0].clone(), one[0].clone()]), WriteError::BadName { .. }));
    assert!(matches!(bad_plan(&[spec("__metadata__", Dtype::F32, &[1])]), WriteError::BadName { .. }));
    let huge = spec("x", Dtype::F32, &[usize::MAX, 2]);
    assert!(matches!(bad_plan(&[huge]), WriteError::ShapeOverflow { .. }));
}

#[test]
fn existing_targets() {
    let parent = tempfile::tempdir().unwrap();
    let target = parent.path().join("out");
    let one = [spec("x", Dtype::F32, &[1])];
    let write = |value: f32, existing| -> Result<(), WriteError> {
        let mut writer = CheckpointWriter::create(&target, plan(&one, 100), existing)?;
        writer.write_f32("x", &[value])?;
        writer.write_config(&config())?;
        writer.finish()
    };
    std::fs::create_dir(&target).unwrap();
    write(1.0, ExistingTarget::Refuse).unwrap(); // empty: taken
    assert!(matches!(write(2.0, ExistingTarget::Refuse), Err(WriteError::TargetNotEmpty { .. })));
    write(3.0, ExistingTarget::Replace).unwrap();
    let mut read = Vec::new();
    Checkpoint::open(&target).unwrap().read_f32("x", &mut read).unwrap();
    assert_eq!(read, [3.0]);
    std::fs::write(target.join("thesis.tex"), b"precious").unwrap();
    match write(4.0, ExistingTarget::Replace).unwrap_err() {
        WriteError::TargetHoldsOtherFiles { found, .. } => assert_eq!(found, "thesis.tex"),
        other => panic!("{other}"),
    }
    assert!(target.join("thesis.tex").exists());
    assert_eq!(entries(parent.path()), ["out"]);
    let file = parent.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let found = CheckpointWriter::create(&file, plan(&one, 100), ExistingTarget::Replace).unwrap_err();
    assert!(matches!(found, WriteError::TargetIsNoDirectory { .. }));
}
