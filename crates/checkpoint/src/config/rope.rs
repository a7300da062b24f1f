//! Rotary position settings in their old spelling (`rope_theta`, `rope_scaling`) and their new one
//! (`rope_parameters`, transformers 5).
//!
//! Source: `RotaryEmbeddingConfigMixin` in transformers' `modeling_rope_utils.py`.

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
    /// A kind not read here, by its name, so that the model can refuse it by name.
    Other(String),
}

/// Base and scaling. As in transformers, `rope_scaling` wins over `rope_parameters`, and a base inside the
/// object wins over one beside it.
pub(super) fn read(
    fields: &Fields<'_>,
    max_position_embeddings: usize,
) -> Result<(f64, RopeScaling), ConfigError> {
    const DEFAULT_THETA: f64 = 10_000.0;
    let outer_theta = fields.positive("rope_theta")?;
    let nested = match fields.nested("rope_scaling")?.filter(|nested| !nested.object().is_empty()) {
        Some(nested) => Some(nested),
        None => fields.nested("rope_parameters")?,
    };
    let Some(nested) = nested else {
        return Ok((outer_theta.unwrap_or(DEFAULT_THETA), RopeScaling::Default));
    };
    if nested.object().values().any(serde_json::Value::is_object) {
        let scaling = RopeScaling::Other("one per layer type".into());
        return Ok((outer_theta.unwrap_or(DEFAULT_THETA), scaling));
    }
    let theta = nested.positive("rope_theta")?.or(outer_theta).unwrap_or(DEFAULT_THETA);
    let kind = nested.optional_string("rope_type")?.or(nested.optional_string("type")?);
    let required = |name: &str| nested.positive(name)?.ok_or_else(|| nested.absent(name));
    let scaling = match kind.as_deref() {
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
                original_max_position_embeddings: nested
                    .within("original_max_position_embeddings", 1 << 31)?
                    .or(fields.within("original_max_position_embeddings", 1 << 31)?)
                    .unwrap_or(max_position_embeddings),
            }
        }
        Some(other) => RopeScaling::Other(other.to_owned()),
    };
    Ok((theta, scaling))
}
