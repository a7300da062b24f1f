//! The golden checkpoints written as GGUF and read back: the same weights, the same logits.

use std::path::Path;

use slmc_gguf::TensorType;
use slmc_gguf::activation::ActivationFormat;
use slmc_gguf::blocks::{decode, encode};
use slmc_gguf::container::{Array, Layout, Metadata, Value, Writer};
use slmc_model::arch::permute_rows;
use slmc_model::rope::rope_factors;
use slmc_model::{
    BurnDevice, CheckpointSource, Device, GgufSource, KvPrecision, ModelConfig, ModelError, RopeScaling,
    TensorId, WeightSource,
};

use crate::common::{CASES, golden, largest_difference, logits};

/// As llama.cpp's converter does it.
fn metadata(config: &ModelConfig) -> Metadata {
    let arch = config.arch.gguf_architecture;
    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", arch);
    let mut number = |key: &str, value: usize| {
        metadata.insert(format!("{arch}.{key}"), value as u32);
    };
    number("block_count", config.num_hidden_layers);
    number("context_length", config.max_position_embeddings);
    number("embedding_length", config.hidden_size);
    number("feed_forward_length", config.intermediate_size);
    number("attention.head_count", config.num_attention_heads);
    number("attention.head_count_kv", config.num_key_value_heads);
    number("attention.key_length", config.head_dim);
    number("attention.value_length", config.head_dim);
    number("rope.dimension_count", config.rotary_dim);
    metadata.insert(format!("{arch}.rope.freq_base"), config.rope_theta as f32);
    metadata.insert(format!("{arch}.attention.layer_norm_rms_epsilon"), config.rms_norm_eps as f32);
    let mut set = |key: &str, value: Value| metadata.insert(format!("{arch}.{key}"), value);
    match &config.rope_scaling {
        RopeScaling::Linear { factor } => {
            set("rope.scaling.type", "linear".into());
            set("rope.scaling.factor", (*factor as f32).into());
        }
        RopeScaling::LongRope { attention_factor, original_max_position_embeddings, .. } => {
            set("rope.scaling.attn_factor", (*attention_factor as f32).into());
            set("rope.scaling.original_context_length", (*original_max_position_embeddings as u32).into());
        }
        _ => {}
    }
    if let Some(window) = config.sliding_window.iter().flatten().next() {
        set("attention.sliding_window", (*window as u32).into());
        let windowed = config.sliding_window.iter().map(Option::is_some).collect();
        set("attention.sliding_window_pattern", Value::Array(Array::Bool(windowed)));
    }
    if let Some(cap) = config.attention_softcap {
        set("attn_logit_softcapping", (cap as f32).into());
    }
    if let Some(cap) = config.logits.softcap {
        set("final_logit_softcapping", cap.into());
    }
    if arch == "granite" {
        set("attention.scale", (config.attention_scale as f32).into());
        set("embedding_scale", (config.embedding_scale as f32).into());
        set("residual_scale", (config.residual_scale as f32).into());
        set("logit_scale", (1.0 / config.logits.scale).into());
    }
    metadata
}

/// Writes a checkpoint's tensors as GGUF, matrices of blocks as `matrices`, everything else in f32.
pub fn write(source: &CheckpointSource, path: &Path, matrices: TensorType) {
    let config = source.config();
    let mut tensors = Vec::new();
    for id in config.tensors() {
        let shape = config.shape(id.role);
        let weight = source.load(id).unwrap();
        let mut values = weight.values;
        if let Some(heads) = config.permuted_heads(id.role) {
            let plain = values.clone();
            permute_rows(&plain, &mut values, heads, plain.len() / shape[0]);
        }
        let ty = if shape.len() == 2 && id.layer.is_some() { matrices } else { TensorType::F32 };
        tensors.push((config.arch.gguf_name(id).unwrap(), shape, ty, values));
    }
    let factors = match &config.rope_scaling {
        RopeScaling::Llama3 { .. } => vec![("rope_freqs.weight", rope_factors(config, 1))],
        RopeScaling::LongRope { short, long, .. } => {
            vec![("rope_factors_long.weight", long.clone()), ("rope_factors_short.weight", short.clone())]
        }
        _ => Vec::new(),
    };
    for (name, factors) in factors {
        tensors.push((name.to_owned(), vec![factors.len()], TensorType::F32, factors));
    }
    let plan: Vec<_> =
        tensors.iter().map(|(name, shape, ty, _)| (name.clone(), shape.clone(), *ty)).collect();
    let writer = Writer::create(path, Layout::new(metadata(config), plan).unwrap()).unwrap();
    for (name, shape, ty, values) in &tensors {
        let mut bytes = vec![0; ty.bytes_for(values.len()).unwrap()];
        encode(*ty, values, *shape.last().unwrap(), None, &mut bytes).unwrap();
        writer.write(name, 0, &bytes).unwrap();
    }
    writer.finish().unwrap();
}

fn cpu() -> BurnDevice {
    Device::Cpu.burn().unwrap()
}

#[test]
fn windows_that_llama_cpp_leaves_out_are_known() {
    for case in CASES {
        let checkpoint = CheckpointSource::open(&golden(case).dir).unwrap();
        let expected = case.ends_with("window").then_some(if case == "qwen2_window" { 9 } else { 7 });
        assert_eq!(checkpoint.config().window_lost_in_gguf(), expected, "{case}");
    }
}

#[test]
fn gives_the_logits_of_the_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    // llama.cpp runs these families without their windows, and so does a file read back.
    for case in CASES.into_iter().filter(|case| !case.ends_with("window")) {
        let golden = golden(case);
        let checkpoint = CheckpointSource::open(&golden.dir).unwrap();
        // Nor are there keys for everything.
        assert_eq!(checkpoint.config().gguf_obstacle().is_some(), case == "gemma2_scalar", "{case}");
        if case == "gemma2_scalar" {
            continue;
        }
        let path = dir.path().join(format!("{case}.gguf"));
        write(&checkpoint, &path, TensorType::F32);
        let gguf = GgufSource::open(&path).unwrap();
        for id in checkpoint.config().tensors() {
            assert_eq!(gguf.load(id).unwrap(), checkpoint.load(id).unwrap(), "{case}: {id}");
        }
        let found = logits(&gguf, &golden.tokens, golden.seq, &cpu(), KvPrecision::F32);
        let difference = largest_difference(&found, &golden.logits);
        assert!(difference <= 1e-4, "{case}: {difference:e}");
        // Half-precision keys and values change logits, but little.
        assert_eq!(gguf.kv_precision(), KvPrecision::F16);
        let rounded = logits(&gguf, &golden.tokens, golden.seq, &cpu(), gguf.kv_precision());
        let difference = largest_difference(&rounded, &golden.logits);
        assert!(difference > 0.0 && difference < 2e-2, "{case}: {difference:e}");
    }
}

#[test]
fn quantized_weights_come_with_their_activations() {
    let dir = tempfile::tempdir().unwrap();
    let golden = golden("qwen2");
    let checkpoint = CheckpointSource::open(&golden.dir).unwrap();
    let path = dir.path().join("q8_0.gguf");
    write(&checkpoint, &path, TensorType::Q8_0);
    let gguf = GgufSource::open(&path).unwrap();
    let id = TensorId::block(1, slmc_model::Role::Up);
    let (weight, original) = (gguf.load(id).unwrap(), checkpoint.load(id).unwrap());
    assert_eq!(weight.activation, ActivationFormat::Q8_0);
    let mut bytes = vec![0; TensorType::Q8_0.bytes_for(original.values.len()).unwrap()];
    encode(TensorType::Q8_0, &original.values, 64, None, &mut bytes).unwrap();
    let mut expected = vec![0.0; original.values.len()];
    decode(TensorType::Q8_0, &bytes, &mut expected).unwrap();
    assert_eq!(weight.values, expected);
    assert_eq!(gguf.load_rows(id, 3..5).unwrap().values, expected[3 * 64..5 * 64]);
    let found = logits(&gguf, &golden.tokens, golden.seq, &cpu(), gguf.kv_precision());
    let difference = largest_difference(&found, &golden.logits);
    assert!(difference > 1e-4 && difference < 0.5, "{difference:e}");
}

#[test]
fn what_is_missing_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = CheckpointSource::open(&golden("llama").dir).unwrap();
    let config = checkpoint.config();
    let path = dir.path().join("partial.gguf");
    let tensors = vec![("token_embd.weight".to_owned(), vec![128, 64], TensorType::F32)];
    let writer = Writer::create(&path, Layout::new(metadata(config), tensors).unwrap()).unwrap();
    writer.write("token_embd.weight", 0, &vec![0; 128 * 64 * 4]).unwrap();
    writer.finish().unwrap();
    match GgufSource::open(&path) {
        Err(ModelError::MissingTensor { tensor, .. }) => assert_eq!(tensor, "blk.0.attn_norm.weight"),
        other => panic!("{other:?}"),
    }
    let mut foreign = metadata(config);
    foreign.insert("general.architecture", "gpt2");
    let tensors = vec![("token_embd.weight".to_owned(), vec![128, 64], TensorType::F32)];
    let writer = Writer::create(&path, Layout::new(foreign, tensors).unwrap()).unwrap();
    writer.write("token_embd.weight", 0, &vec![0; 128 * 64 * 4]).unwrap();
    writer.finish().unwrap();
    let error = GgufSource::open(&path).unwrap_err().to_string();
    assert!(error.contains("gpt2") && error.contains("qwen2"), "{error}");
}
