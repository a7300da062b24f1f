//! Rotary position settings in their old spelling (`rope_theta`, `rope_scaling`) and their new one
//! (`rope_parameters`, transformers 5).
//!
//! Source: `RotaryEmbeddingConfigMixin` in transformers' `modeling_rope_utils.py`; the classes' `configuration_*.py`.

use super::ConfigError;
use super::fields::Fields;

/// How rotary frequencies are stretched beyond the trained length.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    Default,
    /// Every frequency divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided by `factor`, high ones kept, those between interpolated.
    Llama3 {
        /// The divisor of low frequencies.
        factor: f64,
        /// Wavelengths above `original_max_position_embeddings / low_freq_factor` are stretched fully.
        low_freq_factor: f64,
        /// Wavelengths below `original_max_position_embeddings / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// The trained length.
        original_max_position_embeddings: usize,
    },
    /// LongRoPE (Ding et al. 2024, arXiv:2402.13753): a divisor for each frequency, one list for sequences up to the trained
    /// length and another for longer ones.
    LongRope {
        /// Divisors up to the trained length.
        short_factor: Vec<f64>,
        /// Divisors beyond it.
        long_factor: Vec<f64>,
        /// What cosines and sines are multiplied with.
        attention_factor: f64,
        /// The trained length.
        original_max_position_embeddings: usize,
    },
    /// A kind not read here, by its name, so that the model can refuse it by name.
    Other(String),
}

/// All that is said of positions.
pub(super) struct Rope {
    /// Base of the frequencies.
    pub theta: f64,
    /// How they are stretched.
    pub scaling: RopeScaling,
    /// Base of the frequencies in layers with a sliding window, where they have their own.
    pub local_theta: Option<f64>,
    /// Share of each head that is rotated.
    pub partial_rotary_factor: Option<f64>,
    /// The trained length, where the file has it beside the others.
    pub original_max_position_embeddings: Option<usize>,
}

const POSITIONS: u64 = 1 << 31;

/// Reads them. As in transformers, `rope_scaling` wins over `rope_parameters`, and a base inside the object wins over one
/// beside it.
pub(super) fn read(
    fields: &Fields<'_>,
    model_type: &str,
    max_position_embeddings: usize,
) -> Result<Rope, ConfigError> {
    let has_local = model_type == "gemma3_text";
    let class_theta = match model_type {
        "gemma3_text" => 1e6,
        "smollm3" => 2e6,
        _ => 1e4,
    };
    let original = fields.within("original_max_position_embeddings", POSITIONS)?;
    let mut rope = Rope {
        theta: fields.positive("rope_theta")?.unwrap_or(class_theta),
        scaling: RopeScaling::Default,
        local_theta: match has_local {
            true => Some(fields.positive("rope_local_base_freq")?.unwrap_or(1e4)),
            false => None,
        },
        partial_rotary_factor: fields.positive("partial_rotary_factor")?,
        original_max_position_embeddings: original,
    };
    let nested = match fields.nested("rope_scaling")?.filter(|nested| !nested.object().is_empty()) {
        Some(nested) => Some(nested),
        None => fields.nested("rope_parameters")?,
    };
    let Some(mut nested) = nested else { return Ok(rope) };
    if nested.object().values().any(serde_json::Value::is_object) {
        let (full, sliding) = (nested.nested("full_attention")?, nested.nested("sliding_attention")?);
        let (true, Some(full)) = (has_local, full) else {
            rope.scaling = RopeScaling::Other("one per layer type".into());
            return Ok(rope);
        };
        if let Some(sliding) = sliding {
            rope.local_theta = sliding.positive("rope_theta")?.or(rope.local_theta);
            let kind = sliding.optional_string("rope_type")?;
            if let Some(kind) = kind.filter(|kind| kind != "default") {
                rope.scaling = RopeScaling::Other(format!("{kind} in layers with a window"));
                return Ok(rope);
            }
        }
        nested = full;
    }
    rope.theta = nested.positive("rope_theta")?.unwrap_or(rope.theta);
    rope.partial_rotary_factor = nested.positive("partial_rotary_factor")?.or(rope.partial_rotary_factor);
    rope.scaling = scaling(fields, &nested, model_type, (original, max_position_embeddings))?;
    Ok(rope)
}

fn scaling(
    fields: &Fields<'_>,
    nested: &Fields<'_>,
    model_type: &str,
    (original, max_position_embeddings): (Option<usize>, usize),
) -> Result<RopeScaling, ConfigError> {
    let kind = nested.optional_string("rope_type")?.or(nested.optional_string("type")?);
    let required = |name: &str| nested.positive(name)?.ok_or_else(|| nested.absent(name));
    let nested_original = nested.within("original_max_position_embeddings", POSITIONS)?;
    Ok(match kind.as_deref() {
        None | Some("default") => RopeScaling::Default,
        Some("linear") => RopeScaling::Linear { factor: required("factor")? },
        Some("llama3") => {
            let (low, high) = (required("low_freq_factor")?, required("high_freq_factor")?);
            if low >= high {
                return Err(nested.bad_value("low_freq_factor", low, &format!("less than {high}")));
            }
            RopeScaling::Llama3 {
                factor: required("factor")?,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_position_embeddings: nested_original
                    .or(original)
                    .unwrap_or(max_position_embeddings),
            }
        }
        // Files of the first Phi-3 say su or yarn, and mean this.
        Some(kind) if kind == "longrope" || model_type == "phi3" && matches!(kind, "su" | "yarn") => {
            let list = |name: &str| nested.positives(name)?.ok_or_else(|| nested.absent(name));
            // The class has a length of its own, which counts for more than the object's.
            let class = (model_type == "phi3").then_some(4096);
            let trained = original.or(class).or(nested_original).unwrap_or(max_position_embeddings);
            if trained < 2 {
                return Err(fields.bad_value("original_max_position_embeddings", trained, "2 or more"));
            }
            let stretch = match nested.positive("factor")? {
                Some(factor) => factor,
                None => max_position_embeddings as f64 / trained as f64,
            };
            let usual =
                if stretch <= 1.0 { 1.0 } else { (1.0 + stretch.ln() / (trained as f64).ln()).sqrt() };
            RopeScaling::LongRope {
                short_factor: list("short_factor")?,
                long_factor: list("long_factor")?,
                attention_factor: nested.positive("attention_factor")?.unwrap_or(usual),
                original_max_position_embeddings: trained,
            }
        }
        Some(other) => RopeScaling::Other(other.to_owned()),
    })
}

/// Which layers rotate queries and keys; `None` for all. The list `no_rope_layers` has 1 for those that do.
pub(super) fn rotated_layers(
    fields: &Fields<'_>,
    model_type: &str,
    layers: usize,
) -> Result<Option<Vec<bool>>, ConfigError> {
    if model_type != "smollm3" {
        return Ok(None);
    }
    let Some(value) = fields.get("no_rope_layers") else {
        let interval = fields.within("no_rope_layer_interval", POSITIONS)?.unwrap_or(4);
        return Ok(Some((1..=layers).map(|number| !number.is_multiple_of(interval)).collect()));
    };
    let flag = |value: &serde_json::Value| value.as_u64().map(|flag| flag != 0).or(value.as_bool());
    let listed: Option<Vec<bool>> =
        value.as_array().and_then(|list| list.iter().take(layers).map(flag).collect());
    match listed {
        Some(listed) if listed.len() == layers => Ok(Some(listed)),
        _ => Err(fields.wrong_type("no_rope_layers", "a list with 0 or 1 for each layer", value)),
    }
}
