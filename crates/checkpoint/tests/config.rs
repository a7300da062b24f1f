//! `config.json`: spellings, defaults, and fields that are absent or bad.

mod directory;

use directory::config;
use serde_json::{Value, json};
use slmc_checkpoint::Dtype;
use slmc_checkpoint::config::{Config, ConfigError, LayerType, RopeScaling, keep_layers, set_dtype};

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

/// As the file of Phi-3.5-mini has it, and the first Phi-3's spelling; the factor as transformers 5.17 computes it.
#[test]
fn long_rope() {
    let file = |kind: &str| {
        json!({"model_type": "phi3", "max_position_embeddings": 131_072, "original_max_position_embeddings": 4096,
               "rope_scaling": {"type": kind, "short_factor": [1.0, 1.5], "long_factor": [2, 4.5]}})
    };
    for kind in ["longrope", "su", "yarn"] {
        let config = with(file(kind)).unwrap();
        let RopeScaling::LongRope {
            short_factor,
            long_factor,
            attention_factor,
            original_max_position_embeddings,
        } = config.rope_scaling
        else {
            panic!("{kind}: {:?}", config.rope_scaling)
        };
        assert_eq!((short_factor, long_factor), (vec![1.0, 1.5], vec![2.0, 4.5]));
        assert!((attention_factor - 1.190_238_071).abs() < 1e-9, "{attention_factor}");
        assert_eq!(
            (original_max_position_embeddings, config.original_max_position_embeddings),
            (4096, Some(4096))
        );
    }
    let mut other = file("yarn");
    other["model_type"] = "llama".into();
    assert_eq!(with(other).unwrap().rope_scaling, RopeScaling::Other("yarn".into()));
    let mut short = file("longrope");
    short["rope_scaling"].as_object_mut().unwrap().remove("long_factor");
    let found = with(short).unwrap_err();
    assert!(
        matches!(&found, ConfigError::Absent { field, .. } if field == "rope_scaling.long_factor"),
        "{found}"
    );
    let wrong =
        json!({"rope_scaling": {"rope_type": "longrope", "short_factor": [1, -1], "long_factor": [1]}});
    assert!(matches!(with(wrong), Err(ConfigError::WrongType { .. })));
    let partial = json!({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.75}});
    assert_eq!(with(partial).unwrap().partial_rotary_factor, Some(0.75));
}

#[test]
fn gemma_says_much_by_its_class() {
    let gemma2 = with(json!({"model_type": "gemma2", "num_hidden_layers": 3, "sliding_window": 32})).unwrap();
    assert_eq!(
        (0..3).map(|layer| gemma2.sliding_window_of(layer)).collect::<Vec<_>>(),
        [Some(32), None, Some(32)]
    );
    assert_eq!((gemma2.hidden_act.as_str(), gemma2.head_dim), ("gelu_pytorch_tanh", 256));
    let scales = gemma2.scales;
    assert_eq!((scales.attn_logit_softcapping, scales.final_logit_softcapping), (Some(50.0), Some(30.0)));
    assert_eq!(scales.query_pre_attn_scalar, Some(256.0));
    let uncapped = with(json!({"model_type": "gemma2", "attn_logit_softcapping": null})).unwrap();
    assert_eq!(uncapped.scales.attn_logit_softcapping, None);
    // the two spellings of Gemma 3: of its first files, and of transformers 5
    let old = json!({"model_type": "gemma3_text", "num_hidden_layers": 4, "rope_theta": 2e6, "sliding_window_pattern": 2,
                     "rope_local_base_freq": 5e3, "rope_scaling": {"rope_type": "linear", "factor": 8.0}, "sliding_window": 16});
    let new = json!({"model_type": "gemma3_text", "num_hidden_layers": 4, "sliding_window": 16,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
        "rope_parameters": {"full_attention": {"rope_theta": 2e6, "rope_type": "linear", "factor": 8.0},
                            "sliding_attention": {"rope_theta": 5e3, "rope_type": "default"}}});
    for fields in [old, new] {
        let config = with(fields).unwrap();
        assert_eq!((config.rope_theta, config.local_rope_theta), (2e6, Some(5e3)));
        assert_eq!(config.rope_scaling, RopeScaling::Linear { factor: 8.0 });
        let windows: Vec<_> = (0..4).map(|layer| config.sliding_window_of(layer)).collect();
        assert_eq!(windows, [Some(16), None, Some(16), None]);
    }
    let plain = with(json!({"model_type": "gemma3_text", "num_hidden_layers": 6})).unwrap();
    let full: Vec<_> = (0..6).filter(|&layer| plain.sliding_window_of(layer).is_none()).collect();
    assert_eq!((full, plain.rope_theta, plain.local_rope_theta), (vec![5], 1e6, Some(1e4)));
    // the 4B model's file has no more than this of attention
    let mut short = config();
    for field in ["num_attention_heads", "num_key_value_heads", "vocab_size", "max_position_embeddings"] {
        short.as_object_mut().unwrap().remove(field);
    }
    short["model_type"] = "gemma3_text".into();
    let short = Config::from_json(&short).unwrap();
    assert_eq!((short.num_attention_heads, short.num_key_value_heads, short.vocab_size), (8, 4, 262_208));
    assert!(
        with(json!({"model_type": "gemma3_text", "use_bidirectional_attention": true}))
            .unwrap()
            .use_bidirectional_attention
    );
}

#[test]
fn layers_that_do_not_rotate() {
    let rotated = |fields: Value| with(fields).unwrap().rotated_layers;
    assert_eq!(rotated(json!({"num_hidden_layers": 2})), None);
    let smollm3 = json!({"model_type": "smollm3", "num_hidden_layers": 5});
    assert_eq!(rotated(smollm3), Some(vec![true, true, true, false, true]));
    let listed = json!({"model_type": "smollm3", "num_hidden_layers": 2, "no_rope_layers": [0, 1, 1]});
    assert_eq!(rotated(listed), Some(vec![false, true]));
    let short = json!({"model_type": "smollm3", "num_hidden_layers": 2, "no_rope_layers": [1]});
    assert!(matches!(with(short), Err(ConfigError::WrongType { .. })));
}

#[test]
fn experts_are_counted() {
    let experts = |fields: Value| with(fields).unwrap().experts;
    assert_eq!(experts(json!({})), None);
    assert_eq!(experts(json!({"num_local_experts": 8})), Some(8));
    assert_eq!(experts(json!({"num_experts": 1})), None);
}

/// What a class tells from a block's number is written down when blocks go.
#[test]
fn layers_that_stay_keep_what_their_number_said() {
    let kept = |model_type: &str| {
        let mut config = config();
        config["model_type"] = model_type.into();
        config["num_hidden_layers"] = 8.into();
        config["head_dim"] = 4.into();
        config["sliding_window"] = 16.into();
        keep_layers(config.as_object_mut().unwrap(), &[0, 1, 3, 5]);
        Config::from_json(&config).unwrap()
    };
    let gemma2 = kept("gemma2");
    let windowed: Vec<_> = (0..4).map(|layer| gemma2.sliding_window_of(layer).is_some()).collect();
    assert_eq!(windowed, [true, false, false, false]);
    assert_eq!(kept("smollm3").rotated_layers, Some(vec![true, true, false, true]));
    let llama = kept("llama");
    assert_eq!((llama.layer_types, llama.rotated_layers, llama.num_hidden_layers), (None, None, 4));
}
