//! Which layers see everything and which a sliding window.

use super::fields::Fields;
use super::{Config, ConfigError};

/// The attention of one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayerType {
    /// Every earlier token.
    FullAttention,
    /// The last `sliding_window` tokens.
    SlidingAttention,
    /// A kind not read here, by its name, so that the model can refuse it by name.
    Other(String),
}

/// The fields of windowed attention.
pub(super) struct Window {
    pub sliding_window: Option<usize>,
    pub max_window_layers: Option<usize>,
    pub layer_types: Option<Vec<LayerType>>,
}

/// Reads `sliding_window`, `use_sliding_window`, `max_window_layers` and `layer_types`.
///
/// A mistral file without `sliding_window` means its class's 4096; null means none. qwen2 has a window only
/// under `use_sliding_window: true`.
pub(super) fn read(fields: &Fields<'_>, model_type: &str, layers: usize) -> Result<Window, ConfigError> {
    const CLASS_WINDOW: usize = 4096;
    let has_switch = matches!(model_type, "qwen2" | "qwen2_moe" | "qwen3" | "qwen3_moe");
    let stated = fields.within("sliding_window", 1 << 31)?;
    let written_null = fields.object().contains_key("sliding_window");
    let window = match stated {
        None if !written_null && (has_switch || model_type == "mistral") => Some(CLASS_WINDOW),
        stated => stated,
    };
    let used = fields.boolean("use_sliding_window")?.unwrap_or(!has_switch);
    let max_window_layers = match fields.integer("max_window_layers")? {
        None if has_switch => Some(28),
        None => None,
        Some(first) => Some(usize::try_from(first).unwrap_or(usize::MAX)),
    };
    let names = fields.strings("layer_types")?;
    let listed = fields.get("layer_types").is_some();
    if listed && names.len() != layers {
        return Err(fields.bad_value(
            "layer_types",
            format!("a list of {}", names.len()),
            &format!("one entry for each of the {layers} layers (num_hidden_layers)"),
        ));
    }
    let layer_types = listed.then(|| names.into_iter().map(layer_type).collect());
    Ok(Window { sliding_window: window.filter(|_| used), max_window_layers, layer_types })
}

fn layer_type(name: String) -> LayerType {
    match name.as_str() {
        "full_attention" => LayerType::FullAttention,
        "sliding_attention" => LayerType::SlidingAttention,
        _ => LayerType::Other(name),
    }
}

impl Config {
    /// The attention window of one layer in tokens; `None` if it sees everything.
    ///
    /// As in transformers: the list in `layer_types` decides if there is one; else layers from
    /// `max_window_layers` on have the window; else all have it.
    pub fn sliding_window_of(&self, layer: usize) -> Option<usize> {
        let windowed = match (&self.layer_types, self.max_window_layers) {
            (Some(types), _) => types.get(layer) == Some(&LayerType::SlidingAttention),
            (None, Some(first)) => layer >= first,
            (None, None) => true,
        };
        self.sliding_window.filter(|_| windowed)
    }
}
