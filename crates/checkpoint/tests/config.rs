//! `config.json`: spellings, defaults, and fields that are absent or bad.

mod directory;

use directory::config;
use serde_json::{Value, json};
use slmc_checkpoint::Dtype;
use slmc_checkpoint::config::{Config, ConfigError, LayerType, RopeScaling, set_dtype};

/// The small llama's configuration with these fields replaced (null removes nothing: it is written).
fn with(fields: Value) -> Result<Config, ConfigError> {
    let mut config = config();
    for (name, value) in fields.as_object().unwrap() {
        config[name] = value.clone();
    }
    Config::from_json(&config)
}

fn without(field: &str) -> Result<Config, ConfigError> {
    let mut config = config();
    config.as_object_mut().unwrap().remove(field);
    Config::from_json(&config)
}

#[test]
fn fields_and_defaults() {
    let config = with(json!({})).unwrap();
    assert_eq!((config.model_type.as_str(), config.architectures.len()), ("llama", 1));
    assert_eq!((config.vocab_size, config.hidden_size, config.intermediate_size), (16, 8, 12));
    assert_eq!((config.num_attention_heads, config.num_key_value_heads, config.head_dim), (2, 1, 4));
    assert_eq!((config.bos_token_id, config.eos_token_id.as_slice()), (Some(1), &[2, 3][..]));
    assert_eq!((config.rms_norm_eps, config.rope_theta), (1e-5, 10_000.0));
    assert_eq!((config.rope_scaling, config.sliding_window), (RopeScaling::Default, None));
    assert_eq!((config.dtype, config.tie_word_embeddings), (Some(Dtype::BF16), false));
    assert_eq!(with(json!({"head_dim": 16})).unwrap().head_dim, 16);
    assert_eq!(with(json!({"head_dim": null})).unwrap().head_dim, 4);
    assert_eq!(without("num_key_value_heads").unwrap().num_key_value_heads, 2);
    assert_eq!(with(json!({"eos_token_id": 7})).unwrap().eos_token_id, [7]);
    assert_eq!(with(json!({"bos_token_id": null, "pad_token_id": -1})).unwrap().bos_token_id, None);
    assert_eq!(with(json!({"dtype": "float16"})).unwrap().dtype, Some(Dtype::F16));
}

#[test]
fn ties_by_class() {
    let ties = |model_type: &str| with(json!({"model_type": model_type})).unwrap().tie_word_embeddings;
    assert!(!ties("llama") && !ties("mistral") && !ties("qwen2") && ties("gemma"));
    assert!(with(json!({"tie_word_embeddings": true})).unwrap().tie_word_embeddings);
}

#[test]
fn rope_in_both_spellings() {
    let rope = |fields: Value| {
        let config = with(fields).unwrap();
        (config.rope_theta, config.rope_scaling)
    };
    assert_eq!(rope(json!({"rope_theta": 5e5})), (5e5, RopeScaling::Default));
    let new = json!({"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}});
    assert_eq!(rope(new), (5e5, RopeScaling::Default));
    let linear = RopeScaling::Linear { factor: 4.0 };
    let old = json!({"rope_theta": 1e6, "rope_scaling": {"type": "linear", "factor": 4.0}});
    assert_eq!(rope(old), (1e6, linear.clone()));
    let new = json!({"rope_parameters": {"rope_type": "linear", "factor": 4, "rope_theta": 1e6}});
    assert_eq!(rope(new), (1e6, linear));
    let llama3 = json!({
        "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192
    });
    let expected = RopeScaling::Llama3 {
        factor: 32.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
    };
    assert_eq!(rope(json!({"rope_theta": 5e5, "rope_scaling": llama3})), (5e5, expected.clone()));
    assert_eq!(rope(json!({"rope_theta": 5e5, "rope_parameters": llama3})), (5e5, expected));
    let other = json!({"rope_scaling": {"type": "yarn", "factor": 4.0}});
    assert_eq!(rope(other).1, RopeScaling::Other("yarn".into()));
    let layered =
        json!({"rope_parameters": {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {}}});
    assert!(matches!(rope(layered).1, RopeScaling::Other(_)));
}

#[test]
fn sliding_windows() {
    let windows = |fields: Value| {
        let config = with(fields).unwrap();
        (0..config.num_hidden_layers).map(|layer| config.sliding_window_of(layer)).collect::<Vec<_>>()
    };
    let mistral = json!({"model_type": "mistral", "sliding_window": 32});
    assert_eq!(windows(mistral), [Some(32)]);
    assert_eq!(windows(json!({"model_type": "mistral", "sliding_window": null})), [None]);
    assert_eq!(windows(json!({"model_type": "mistral"})), [Some(4096)]);
    let qwen2 = |used: bool| {
        json!({"model_type": "qwen2", "sliding_window": 32, "use_sliding_window": used,
               "max_window_layers": 1, "num_hidden_layers": 3})
    };
    assert_eq!(windows(qwen2(false)), [None; 3]);
    assert_eq!(windows(qwen2(true)), [None, Some(32), Some(32)]);
    let mut listed = qwen2(true);
    listed["layer_types"] = json!(["sliding_attention", "full_attention", "chunked_attention"]);
    assert_eq!(windows(listed.clone()), [Some(32), None, None]);
    let types = with(listed).unwrap().layer_types.unwrap();
    assert_eq!(types[2], LayerType::Other("chunked_attention".into()));
    assert_eq!(windows(json!({"num_hidden_layers": 2})), [None; 2]);
}

#[test]
fn absent_fields_are_named() {
    for field in [
        "model_type",
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "max_position_embeddings",
    ] {
        let found = without(field).unwrap_err();
        assert!(matches!(&found, ConfigError::Absent { field: f, .. } if f == field), "{found}");
        assert_eq!(with(json!({field: null})).unwrap_err(), found);
    }
    let found = with(json!({"rope_scaling": {"type": "linear"}})).unwrap_err();
    assert!(matches!(&found, ConfigError::Absent { field, .. } if field == "rope_scaling.factor"), "{found}");
}

#[test]
fn wrong_types_are_named() {
    for (field, value) in [
        ("model_type", json!(1)),
        ("hidden_size", json!("8")),
        ("hidden_size", json!(8.5)),
        ("hidden_size", json!(-8)),
        ("rms_norm_eps", json!("small")),
        ("rope_theta", json!([])),
        ("rope_scaling", json!("linear")),
        ("tie_word_embeddings", json!(1)),
        ("architectures", json!("LlamaForCausalLM")),
        ("architectures", json!([1])),
        ("eos_token_id", json!(["x"])),
        ("bos_token_id", json!(4_294_967_296u64)),
        ("layer_types", json!({})),
        ("sliding_window", json!(true)),
    ] {
        let found = with(json!({field: value})).unwrap_err();
        assert!(matches!(&found, ConfigError::WrongType { field: f, .. } if f == field), "{field}: {found}");
    }
    assert!(matches!(Config::from_json(&json!([])), Err(ConfigError::NotAnObject { found: "a list" })));
}

#[test]
fn impossible_values_are_named() {
    for (field, value) in [
        ("num_attention_heads", json!(0)),
        ("num_attention_heads", json!(3)),
        ("num_key_value_heads", json!(0)),
        ("num_key_value_heads", json!(4)),
        ("hidden_size", json!(0)),
        ("hidden_size", json!(1u64 << 40)),
        ("vocab_size", json!(u64::MAX)),
        ("num_hidden_layers", json!(0)),
        ("head_dim", json!(0)),
        ("rms_norm_eps", json!(0.0)),
        ("rope_theta", json!(-1.0)),
        ("sliding_window", json!(0)),
        ("layer_types", json!(["full_attention", "full_attention"])),
    ] {
        let mut fields = json!({field: value});
        if field == "num_attention_heads" {
            fields["num_key_value_heads"] = json!(null);
        }
        let found = with(fields).unwrap_err();
        assert!(matches!(&found, ConfigError::BadValue { field: f, .. } if f == field), "{field}: {found}");
    }
    let llama3 = json!({"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4});
    assert!(matches!(with(json!({"rope_scaling": llama3})), Err(ConfigError::BadValue { .. })));
}

#[test]
fn models_of_several_modalities_are_refused() {
    let found = Config::from_json(&json!({"model_type": "gemma3", "text_config": config()})).unwrap_err();
    assert_eq!(found, ConfigError::Nested { field: "text_config", model_type: "gemma3".into() });
}

#[test]
fn the_dtype_keeps_its_spelling() {
    let mut old = config();
    set_dtype(old.as_object_mut().unwrap(), Dtype::F32);
    assert_eq!((old["torch_dtype"].as_str(), old.get("dtype")), (Some("float32"), None));
    let mut new = json!({});
    set_dtype(new.as_object_mut().unwrap(), Dtype::F16);
    assert_eq!(new, json!({"dtype": "float16"}));
}
