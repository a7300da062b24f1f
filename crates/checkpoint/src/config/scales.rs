//! Numbers that some classes multiply with or cap.

use super::ConfigError;
use super::fields::Fields;

/// The fields as the file has them, or the class where the file says nothing. Which of them a class heeds is the model's business.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scales {
    /// Gemma: attention's scores are divided by its root instead of head_dim's.
    pub query_pre_attn_scalar: Option<f64>,
    /// Gemma 2: attention's scores stay within ± this, by c · tanh(x / c).
    pub attn_logit_softcapping: Option<f64>,
    /// Gemma 2: logits stay within ± this.
    pub final_logit_softcapping: Option<f64>,
    /// Granite: factor of the embedded tokens.
    pub embedding_multiplier: Option<f64>,
    /// Granite: factor of what attention and MLP add to the residual stream.
    pub residual_multiplier: Option<f64>,
    /// Granite: factor of attention's scores, instead of 1/√head_dim.
    pub attention_multiplier: Option<f64>,
    /// Granite: divisor of the logits.
    pub logits_scaling: Option<f64>,
}

pub(super) fn read(fields: &Fields<'_>, model_type: &str) -> Result<Scales, ConfigError> {
    let class = |types: &[&str], value: f64| types.contains(&model_type).then_some(value);
    let of = |name: &str, class: Option<f64>| fields.positive_or(name, class);
    Ok(Scales {
        query_pre_attn_scalar: of("query_pre_attn_scalar", class(&["gemma2", "gemma3_text"], 256.0))?,
        attn_logit_softcapping: of("attn_logit_softcapping", class(&["gemma2"], 50.0))?,
        final_logit_softcapping: of("final_logit_softcapping", class(&["gemma2"], 30.0))?,
        embedding_multiplier: of("embedding_multiplier", None)?,
        residual_multiplier: of("residual_multiplier", None)?,
        attention_multiplier: of("attention_multiplier", class(&["granite"], 1.0))?,
        logits_scaling: of("logits_scaling", None)?,
    })
}
