//! Another size in a `config.json`.

use serde_json::{Map, Value};

/// The dimensions of a decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Dimensions {
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// What RMSNorm adds to the mean square: another number where the mean is taken over fewer values of the same sum.
    pub rms_norm_eps: f64,
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
    /// Whether all linear layers of the blocks have biases; where not, those stay that there are.
    pub biases: bool,
}

/// Says in a `config.json` that the model has these dimensions. What the file lists for every block is listed for those that stay.
pub fn set_dimensions(config: &mut Map<String, Value>, dimensions: &Dimensions) {
    let Dimensions { intermediate_size, num_attention_heads, num_key_value_heads, head_dim, layers, .. } =
        dimensions;
    let before = config.get("num_hidden_layers").and_then(Value::as_u64);
    for (field, value) in [
        ("intermediate_size", *intermediate_size),
        ("num_attention_heads", *num_attention_heads),
        ("num_key_value_heads", *num_key_value_heads),
        // what heads × width no longer tells
        ("head_dim", *head_dim),
        ("num_hidden_layers", layers.len()),
        ("hidden_size", dimensions.hidden_size),
    ] {
        config.insert(field.to_owned(), Value::from(value));
    }
    config.insert("rms_norm_eps".to_owned(), Value::from(dimensions.rms_norm_eps));
    if dimensions.biases {
        for field in ["attention_bias", "mlp_bias"] {
            config.insert(field.to_owned(), Value::from(true));
        }
    }
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
            hidden_size: 96,
            rms_norm_eps: 2e-5,
            biases: true,
        };
        set_dimensions(&mut config, &dimensions);
        let expected = serde_json::json!({"num_hidden_layers": 3, "intermediate_size": 32, "num_attention_heads": 6,
            "max_window_layers": 2, "layer_types": ["a", "c", "d"], "eos_token_id": [1, 2], "num_key_value_heads": 3,
            "head_dim": 16, "hidden_size": 96, "rms_norm_eps": 2e-5, "attention_bias": true, "mlp_bias": true});
        assert_eq!(Value::Object(config), expected);
    }
}
