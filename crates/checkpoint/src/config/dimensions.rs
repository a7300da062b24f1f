//! Another size in a `config.json`.

use serde_json::{Map, Value};

use super::Config;

/// The dimensions of a decoder whose width of the residual stream stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dimensions {
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads.
    pub num_key_value_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// The blocks that stay, as they are numbered in the file, ascending.
    pub layers: Vec<usize>,
}

/// Says in a `config.json` that the model has these dimensions: see [`keep_layers`] for its blocks.
pub fn set_dimensions(config: &mut Map<String, Value>, dimensions: &Dimensions) {
    let Dimensions { intermediate_size, num_attention_heads, num_key_value_heads, head_dim, layers } =
        dimensions;
    for (field, value) in [
        ("intermediate_size", *intermediate_size),
        ("num_attention_heads", *num_attention_heads),
        ("num_key_value_heads", *num_key_value_heads),
        // what heads × width no longer tells
        ("head_dim", *head_dim),
    ] {
        config.insert(field.to_owned(), Value::from(value));
    }
    keep_layers(config, layers);
}

/// Says in a `config.json` that of its blocks these are left, ascending. What the file lists for every block is listed for those that
/// stay; so is what the class derives from a block's number, where that would become another.
pub fn keep_layers(config: &mut Map<String, Value>, layers: &[usize]) {
    let before = config.get("num_hidden_layers").and_then(Value::as_u64);
    if before != Some(layers.len() as u64) {
        list_layers(config);
    }
    config.insert("num_hidden_layers".to_owned(), Value::from(layers.len()));
    if let Some(windowed) = config.get("max_window_layers").and_then(Value::as_u64) {
        let full = layers.iter().filter(|layer| (**layer as u64) < windowed).count();
        config.insert("max_window_layers".to_owned(), Value::from(full));
    }
    for value in config.values_mut() {
        if let Value::Array(each) = value
            && Some(each.len() as u64) == before
            && layers.iter().all(|layer| *layer < each.len())
        {
            *each = layers.iter().map(|layer| each[*layer].clone()).collect();
        }
    }
}

/// Writes down the attention of every block, and whether it rotates, in classes that tell both from the block's number.
fn list_layers(config: &mut Map<String, Value>) {
    let Ok(parsed) = Config::from_json(&Value::Object(config.clone())) else { return };
    if let (Some(types), true) = (parsed.layer_types, config.get("layer_types").is_none_or(Value::is_null)) {
        let names = types.iter().map(|kind| Value::from(kind.name())).collect();
        config.insert("layer_types".to_owned(), Value::Array(names));
    }
    if let Some(rotated) = parsed.rotated_layers {
        let flags = rotated.into_iter().map(|rotated| Value::from(u8::from(rotated))).collect();
        config.insert("no_rope_layers".to_owned(), Value::Array(flags));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_blocks_keep_those_that_stay() {
        let text = r#"{"num_hidden_layers": 4, "intermediate_size": 64, "num_attention_heads": 8, "max_window_layers": 3,
            "layer_types": ["a", "b", "c", "d"], "eos_token_id": [1, 2]}"#;
        let Value::Object(mut config) = serde_json::from_str(text).unwrap() else { unreachable!() };
        let dimensions = Dimensions {
            intermediate_size: 32,
            num_attention_heads: 6,
            num_key_value_heads: 3,
            head_dim: 16,
            layers: vec![0, 2, 3],
        };
        set_dimensions(&mut config, &dimensions);
        let expected = serde_json::json!({"num_hidden_layers": 3, "intermediate_size": 32, "num_attention_heads": 6,
            "max_window_layers": 2, "layer_types": ["a", "c", "d"], "eos_token_id": [1, 2], "num_key_value_heads": 3,
            "head_dim": 16});
        assert_eq!(Value::Object(config), expected);
    }
}
