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

impl LayerType {
    /// Its spelling in the file.
    pub fn name(&self) -> &str {
        match self {
            Self::FullAttention => "full_attention",
            Self::SlidingAttention => "sliding_attention",
            Self::Other(name) => name,
        }
    }
}

/// The fields of windowed attention.
pub(super) struct Window {
    pub sliding_window: Option<usize>,
    pub max_window_layers: Option<usize>,
    pub layer_types: Option<Vec<LayerType>>,
}

impl Window {
    /// The layers with a window, in classes where the others do not rotate; `None` where none has one.
    pub fn rotated(&self) -> Option<Vec<bool>> {
        let types = self.sliding_window.and(self.layer_types.as_ref())?;
        Some(types.iter().map(|kind| *kind == LayerType::SlidingAttention).collect())
    }
}

/// Reads `sliding_window`, `use_sliding_window`, `max_window_layers` and `layer_types`.
///
/// A mistral or gemma file without `sliding_window` means its class's 4096; null means none. qwen2, qwen3 and smollm3 have a
/// window only under `use_sliding_window: true`. Gemma's layers take turns where the file does not list them.
pub(super) fn read(fields: &Fields<'_>, model_type: &str, layers: usize) -> Result<Window, ConfigError> {
    const CLASS_WINDOW: usize = 4096;
    let has_switch = matches!(model_type, "qwen2" | "qwen2_moe" | "qwen3" | "qwen3_moe" | "smollm3");
    let has_window = matches!(
        model_type,
        "qwen2"
            | "qwen2_moe"
            | "qwen3"
            | "qwen3_moe"
            | "mistral"
            | "ministral"
            | "gemma2"
            | "gemma3_text"
            | "exaone4"
    );
    let stated = fields.within("sliding_window", 1 << 31)?;
    let written_null = fields.object().contains_key("sliding_window");
    let window = match stated {
        None if !written_null && has_window => Some(CLASS_WINDOW),
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
    let layer_types = match full_attention_every(fields, model_type)? {
        _ if listed => Some(names.into_iter().map(layer_type).collect()),
        Some(period) => Some((1..=layers).map(|number| in_turns(number, period)).collect()),
        None => None,
    };
    Ok(Window { sliding_window: window.filter(|_| used), max_window_layers, layer_types })
}

/// Of how many layers the last sees everything, in classes whose layers take turns.
fn full_attention_every(fields: &Fields<'_>, model_type: &str) -> Result<Option<usize>, ConfigError> {
    Ok(match model_type {
        "gemma2" => Some(2),
        "gemma3_text" => Some(fields.within("sliding_window_pattern", 1 << 16)?.unwrap_or(6)),
        // A number, or one letter for each layer of a period.
        "exaone4" => Some(match fields.get("sliding_window_pattern") {
            Some(serde_json::Value::String(letters)) => letters.len(),
            // 0 where there is no window
            _ => fields.integer("sliding_window_pattern")?.map_or(4, |period| period as usize),
        }),
        _ => None,
    })
}

fn in_turns(number: usize, period: usize) -> LayerType {
    if number.is_multiple_of(period) { LayerType::FullAttention } else { LayerType::SlidingAttention }
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
