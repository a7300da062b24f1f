//! The text model of a checkpoint for several modalities, as a checkpoint by itself.
//!
//! Source: the `*ForConditionalGeneration` classes of transformers (`models/{gemma3,mistral3,qwen2_vl,qwen2_5_vl}`), their
//! `_checkpoint_conversion_mapping` for the two ways in which tensors are named, and their configurations' defaults.

use serde_json::{Map, Value, json};

/// Classes whose text model is one that stands by itself: `model_type` of the whole, of its text model, and of the latter alone
/// with its class.
const FAMILIES: [(&str, &str, &str, &str); 4] = [
    ("gemma3", "gemma3_text", "gemma3_text", "Gemma3ForCausalLM"),
    ("mistral3", "mistral", "mistral", "MistralForCausalLM"),
    ("qwen2_vl", "qwen2_vl_text", "qwen2", "Qwen2ForCausalLM"),
    ("qwen2_5_vl", "qwen2_5_vl_text", "qwen2", "Qwen2ForCausalLM"),
];

/// Settings of the whole that hold for the text model where that has none of its own.
const INHERITED: [&str; 6] =
    ["torch_dtype", "dtype", "tie_word_embeddings", "bos_token_id", "eos_token_id", "pad_token_id"];

/// What a tensor of the text model is called in the whole, and by itself.
const PREFIXES: [(&str, &str); 4] = [
    ("language_model.model.", "model."),
    ("language_model.lm_head.", "lm_head."),
    ("model.language_model.", "model."),
    ("lm_head.", "lm_head."),
];

/// Beginnings of the names of tensors that see.
const VISION: [&str; 6] = [
    "vision_tower.",
    "multi_modal_projector.",
    "visual.",
    "model.vision_tower.",
    "model.multi_modal_projector.",
    "model.visual.",
];

/// The `config.json` of the text model in that of a whole; `None` for a text model by itself, or for a whole of another kind.
pub(crate) fn text_config(whole: &Value) -> Option<Value> {
    let model_type = whole.get("model_type")?.as_str()?;
    let (_, part, alone, class) = FAMILIES.into_iter().find(|(name, ..)| *name == model_type)?;
    let mut text: Map<String, Value> = match whole.get("text_config") {
        Some(Value::Object(text)) => {
            let named = text.get("model_type").and_then(Value::as_str).unwrap_or(part);
            if ![part, alone].contains(&named) {
                return None;
            }
            text.clone()
        }
        // older files have the text model's settings among those of the whole
        _ => whole
            .as_object()?
            .iter()
            .filter(|(name, _)| *name != "vision_config")
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect(),
    };
    for name in INHERITED {
        if let Some(value) = whole.get(name).filter(|_| text.get(name).is_none_or(Value::is_null)) {
            text.insert(name.to_owned(), value.clone());
        }
    }
    if model_type == "gemma3" {
        // published files leave out what the class has by default, head counts and all
        let defaults = json!({
            "vocab_size": 262_208, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
            "max_position_embeddings": 131_072, "rms_norm_eps": 1e-6, "hidden_activation": "gelu_pytorch_tanh",
            "query_pre_attn_scalar": 256, "tie_word_embeddings": true,
        });
        for (name, value) in defaults.as_object().into_iter().flatten() {
            if text.get(name).is_none_or(Value::is_null) {
                text.insert(name.clone(), value.clone());
            }
        }
    }
    // of text alone, time, height and width are one: positions are rotated as in any other model
    for field in ["rope_scaling", "rope_parameters"] {
        if let Some(Value::Object(rope)) = text.get_mut(field)
            && rope.remove("mrope_section").is_some()
        {
            for name in ["type", "rope_type"] {
                if rope.get(name).is_some_and(|kind| kind == "mrope") {
                    rope.insert(name.to_owned(), "default".into());
                }
            }
        }
    }
    text.insert("model_type".into(), alone.into());
    text.insert("architectures".into(), json!([class]));
    Some(Value::Object(text))
}

/// The name of a tensor in the text model by itself; `None` for one that sees.
pub(crate) fn text_name(name: &str) -> Option<String> {
    if VISION.iter().any(|prefix| name.starts_with(prefix)) {
        return None;
    }
    let renamed =
        PREFIXES.iter().find_map(|(whole, alone)| Some(format!("{alone}{}", name.strip_prefix(whole)?)));
    Some(renamed.unwrap_or_else(|| name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gemma_s_text_model_gets_the_defaults_of_its_class() {
        let whole = json!({"model_type": "gemma3", "eos_token_id": [1, 106], "torch_dtype": "bfloat16", "vision_config": {},
            "text_config": {"model_type": "gemma3_text", "hidden_size": 2560, "num_attention_heads": 4}});
        let text = text_config(&whole).unwrap();
        assert_eq!(
            (&text["model_type"], &text["architectures"][0]),
            (&json!("gemma3_text"), &json!("Gemma3ForCausalLM"))
        );
        assert_eq!((&text["num_attention_heads"], &text["head_dim"]), (&json!(4), &json!(256)));
        assert_eq!((&text["eos_token_id"], &text["torch_dtype"]), (&json!([1, 106]), &json!("bfloat16")));
    }

    #[test]
    fn qwen_s_text_model_is_qwen_2() {
        let rope = json!({"type": "mrope", "mrope_section": [16, 24, 24]});
        let flat = json!({"model_type": "qwen2_5_vl", "hidden_size": 2048, "rope_scaling": rope, "vision_config": {"depth": 2}});
        let text = text_config(&flat).unwrap();
        assert_eq!(text["model_type"], "qwen2");
        assert_eq!(text["rope_scaling"], json!({"type": "default"}));
        assert!(text.get("vision_config").is_none());
    }

    #[test]
    fn text_models_and_other_wholes_are_left_alone() {
        for config in [
            json!({"model_type": "llama"}),
            json!({"model_type": "llava", "text_config": {"model_type": "llama"}}),
            json!({"model_type": "mistral3", "text_config": {"model_type": "ministral3"}}),
        ] {
            assert_eq!(text_config(&config), None);
        }
    }

    #[test]
    fn names_of_both_layouts() {
        let of = |name| text_name(name);
        let weight = Some("model.layers.0.mlp.up_proj.weight".to_owned());
        assert_eq!(of("language_model.model.layers.0.mlp.up_proj.weight"), weight);
        assert_eq!(of("model.language_model.layers.0.mlp.up_proj.weight"), weight);
        assert_eq!(of("model.layers.0.mlp.up_proj.weight"), weight);
        assert_eq!(of("language_model.lm_head.weight").as_deref(), Some("lm_head.weight"));
        assert_eq!(of("visual.blocks.0.attn.qkv.weight"), None);
        assert_eq!(of("model.multi_modal_projector.linear_1.weight"), None);
    }
}
