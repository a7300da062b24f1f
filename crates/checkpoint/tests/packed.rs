//! Packed checkpoints: read as compressed-tensors reads them (`golden/packed.py`), and refused where parts do not fit.

mod directory;

use std::path::{Path, PathBuf};

use directory::{Directory, config, safetensors};
use serde_json::{Value, json};
use slmc_checkpoint::packed::{GroupSize, PackScheme, quantization_config};
use slmc_checkpoint::{
    Checkpoint, CheckpointError, CheckpointPlan, CheckpointWriter, Dtype, ExistingTarget, TensorSpec,
};

const CASES: [&str; 7] = [
    "int2_g32_asymmetric",
    "int3_g32",
    "int3_channel_asymmetric",
    "int4_g32",
    "int4_g32_asymmetric",
    "int8_channel",
    "int8_g32_asymmetric",
];

fn golden(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/packed").join(case)
}

#[test]
fn weights_are_those_that_compressed_tensors_unpacks() {
    for case in CASES {
        let checkpoint = Checkpoint::open(&golden(case)).unwrap();
        assert_eq!(checkpoint.config().quantization.unwrap().to_string(), case);
        let shape = checkpoint.shape("m.weight").unwrap().to_vec();
        assert_eq!(shape, checkpoint.tensor("m.expected").unwrap().shape);
        let (mut weight, mut expected) = (Vec::new(), Vec::new());
        checkpoint.read_f32("m.weight", &mut weight).unwrap();
        checkpoint.read_f32("m.expected", &mut expected).unwrap();
        assert!(expected.iter().any(|v| *v != 0.0));
        assert!(weight == expected, "{case}");
        // rows by themselves
        let mut rows = vec![0.0; 7 * shape[1]];
        checkpoint.read_rows_f32("m.weight", 33..40, &mut rows).unwrap();
        assert!(rows == expected[33 * shape[1]..40 * shape[1]], "{case}");
        let beyond = checkpoint.read_rows_f32("m.weight", 35..42, &mut rows).unwrap_err();
        assert!(matches!(beyond, CheckpointError::RowsOutOfRange { found: 41, .. }), "{beyond}");
        assert!(matches!(
            checkpoint.read_f32("m.weight_packed", &mut weight).unwrap_err(),
            CheckpointError::NotFloat { found: Dtype::I32, .. }
        ));
        assert_eq!(
            checkpoint.packed("m.weight").unwrap().parts().count() + 1,
            checkpoint.tensors().len(),
            "{case}: every tensor but the expected values is a part"
        );
    }
}

#[test]
fn the_configuration_that_is_written_is_read_back() {
    for bits in 2..=8 {
        for group in [GroupSize::Columns(32), GroupSize::Columns(128), GroupSize::Channel] {
            for symmetric in [true, false] {
                let scheme = PackScheme { bits, group, symmetric };
                let mut json = config();
                json["quantization_config"] = quantization_config(&scheme, &["lm_head".into()], bits == 4);
                let read = slmc_checkpoint::Config::from_json(&json).unwrap();
                assert_eq!(read.quantization, Some(scheme));
            }
        }
    }
}

/// Every kind of quantization that is not read is refused by the field that says so.
#[test]
fn other_quantizations_are_refused_in_a_sentence() {
    let scheme = PackScheme { bits: 4, group: GroupSize::Columns(32), symmetric: true };
    let good = quantization_config(&scheme, &[], false);
    let weights = "/config_groups/group_0/weights";
    let changes: [(&str, Value, &str); 12] = [
        ("/quant_method", json!("gptq"), "quant_method is \"gptq\"; expected \"compressed-tensors\""),
        ("/quant_method", json!("bitsandbytes"), "take the unquantized checkpoint"),
        ("/format", json!("float-quantized"), "quantization_config.format is \"float-quantized\""),
        ("/format", Value::Null, "format is \"absent\"; expected \"pack-quantized\""),
        ("/kv_cache_scheme", json!({ "num_bits": 8 }), "kv_cache_scheme"),
        ("/config_groups", json!({}), "0 groups; expected one group"),
        ("/config_groups/group_0/input_activations", json!({ "num_bits": 8 }), "input_activations"),
        (&format!("{weights}/type"), json!("float"), "type is \"float\"; expected \"int\""),
        (&format!("{weights}/num_bits"), json!(1), "num_bits is 1; expected 2 to 8"),
        (&format!("{weights}/actorder"), json!("group"), "columns of a group must be neighbours"),
        (&format!("{weights}/strategy"), json!("tensor"), "strategy is \"tensor\""),
        (&format!("{weights}/group_size"), json!(0), "group_size is 0"),
    ];
    for (pointer, value, expected) in changes {
        let mut json = config();
        json["quantization_config"] = good.clone();
        *json["quantization_config"].pointer_mut(pointer).unwrap() = value;
        let directory = Directory::with_model(&safetensors("{}", &[]));
        directory.write("config.json", json.to_string().as_bytes());
        let error = directory.open().unwrap_err();
        assert!(matches!(error, CheckpointError::Config { .. }));
        assert!(error.to_string().contains(expected), "{pointer}: {error}");
    }
}

/// A packed weight `[4, 64]` in groups of 32, as `change` leaves its parts.
fn open(
    symmetric: bool,
    change: impl Fn(&mut Vec<(TensorSpec, Vec<u8>)>),
) -> Result<Checkpoint, CheckpointError> {
    let spec =
        |name: &str, dtype, shape: &[usize]| TensorSpec { name: name.into(), dtype, shape: shape.into() };
    let shape = [4i64, 64].map(i64::to_le_bytes).as_flattened().to_vec();
    let mut parts = vec![
        (spec("m.weight_packed", Dtype::I32, &[4, 8]), vec![0x5a; 128]),
        (spec("m.weight_scale", Dtype::F16, &[4, 2]), [0x00, 0x3c].repeat(8)),
        (spec("m.weight_shape", Dtype::I64, &[2]), shape),
    ];
    if !symmetric {
        parts.push((spec("m.weight_zero_point", Dtype::I32, &[1, 2]), vec![0x33; 8]));
    }
    change(&mut parts);
    let parent = tempfile::tempdir().unwrap();
    let target = parent.path().join("out");
    let plan = CheckpointPlan::new(parts.iter().map(|p| p.0.clone()).collect(), u64::MAX).unwrap();
    let mut writer = CheckpointWriter::create(&target, plan, ExistingTarget::Refuse).unwrap();
    for (spec, bytes) in &parts {
        writer.write_bytes(&spec.name, bytes).unwrap();
    }
    let scheme = PackScheme { bits: 4, group: GroupSize::Columns(32), symmetric };
    let mut json = config();
    json["quantization_config"] = quantization_config(&scheme, &[], false);
    writer.write_config(&json).unwrap();
    writer.finish().unwrap();
    let checkpoint = Checkpoint::open(&target)?;
    let mut values = Vec::new();
    checkpoint.read_f32("m.weight", &mut values)?;
    assert_eq!(values.len(), 256);
    Ok(checkpoint)
}

#[test]
fn parts_that_do_not_fit_are_named() {
    for symmetric in [true, false] {
        open(symmetric, |_| ()).unwrap();
    }
    type Parts = Vec<(TensorSpec, Vec<u8>)>;
    let refused = |symmetric, expected: &str, change: &dyn Fn(&mut Parts)| {
        let error = open(symmetric, change).unwrap_err();
        let text = std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source());
        let text = text.map(ToString::to_string).collect::<Vec<_>>().join(": ");
        assert!(text.contains("m.weight") && text.contains(expected), "{expected}: {text}");
    };
    let resize = |parts: &mut Parts, part: usize, shape: &[usize]| {
        let (spec, bytes) = &mut parts[part];
        spec.shape = shape.to_vec();
        bytes.resize(shape.iter().product::<usize>() * spec.dtype.bytes(), 0);
    };
    let set_shape = |parts: &mut Parts, shape: [i64; 2]| {
        parts[2].1 = shape.map(i64::to_le_bytes).as_flattened().to_vec();
    };
    refused(true, "weight_packed is I32 [4, 7]; expected I32 [4, 8]", &|p| resize(p, 0, &[4, 7]));
    refused(true, "weight_packed is I32 [32]; expected I32 [4, 8]", &|p| resize(p, 0, &[32]));
    refused(true, "weight_scale is F16 [4, 1]; expected F16 [4, 2]", &|p| resize(p, 1, &[4, 1]));
    refused(true, "weight_shape is I64 [3]; expected I64 [2]", &|p| resize(p, 2, &[3]));
    refused(true, "there is no weight_shape", &|p| drop(p.remove(2)));
    refused(true, "there is no weight_scale", &|p| drop(p.remove(1)));
    refused(false, "there is no weight_zero_point", &|p| drop(p.remove(3)));
    refused(false, "weight_zero_point is I32 [2, 2]; expected I32 [1, 2]", &|p| resize(p, 3, &[2, 2]));
    for shape in [[4, -64], [0, 64], [4, 48], [i64::MAX, 64], [4, i64::MIN]] {
        refused(true, &format!("says {shape:?}"), &|p| set_shape(p, shape));
    }
    refused(true, "expected I32 [8, 8]", &|p| set_shape(p, [8, 64]));
    refused(true, "weight_scale is I32", &|p| {
        p[1].0.dtype = Dtype::I32;
        p[1].1.resize(32, 0);
    });
    let extra = |name: &str, dtype, shape: &[usize]| {
        let bytes = vec![0; shape.iter().product::<usize>() * Dtype::bytes(dtype)];
        (TensorSpec { name: name.into(), dtype, shape: shape.to_vec() }, bytes)
    };
    refused(true, "weight_g_idx must not be there", &|p| p.push(extra("m.weight_g_idx", Dtype::I32, &[64])));
    refused(true, "weight must not be there", &|p| p.push(extra("m.weight", Dtype::F16, &[4, 64])));
    refused(true, "weight_zero_point must not be there", &|p| {
        p.push(extra("m.weight_zero_point", Dtype::I32, &[1, 2]));
    });
    refused(true, "at index 160", &|p| p[1].1[10..12].copy_from_slice(&[0x00, 0x7c])); // infinity
    refused(true, "weights must be finite", &|p| p[1].1[10..12].copy_from_slice(&[0xff, 0x7b])); // overflows
}
