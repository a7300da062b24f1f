//! The metadata that llama.cpp needs to run the model, and where the file came from.
//!
//! Source: `set_gguf_parameters` in llama.cpp's `conversion/{base,llama,qwen,phi,gemma,granite}.py`; key names from its gguf-py `constants.py`.

use slmc_gguf::container::{Array, Metadata, Value};
use slmc_gguf::vocabulary::Vocabulary;
use slmc_model::arch::Scaling;
use slmc_model::{ModelConfig, RopeScaling};
use slmc_quant::Mix;

/// Version of the block formats (`GGML_QNT_VERSION`).
const QUANTIZATION_VERSION: u32 = 2;

/// How a file came to be; stored under `slmc.*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// The recipe as JSON: method, mix, overrides, calibration options.
    pub recipe: String,
    /// SHA-256 of the calibration tokens, where the method used any.
    pub calibration_sha256: Option<String>,
}

/// All metadata of the file: `general.*`, the architecture's keys, the vocabulary, `slmc.*`.
pub fn metadata(
    name: &str,
    config: &ModelConfig,
    vocabulary: &Vocabulary,
    mix: Mix,
    provenance: &Provenance,
) -> Metadata {
    let mut metadata = Metadata::new();
    let arch = config.arch.gguf_architecture;
    metadata.insert("general.architecture", arch);
    metadata.insert("general.type", "model");
    metadata.insert("general.name", name);
    metadata.insert("general.size_label", size_label(config.parameters()));
    metadata.insert("general.file_type", mix.file_type());
    metadata.insert("general.quantization_version", QUANTIZATION_VERSION);

    let mut set = |key: &str, value: Value| {
        metadata.insert(format!("{arch}.{key}"), value);
    };
    let count = |n: usize| (n as u32).into(); // the configuration's limits are below 2^31
    set("block_count", count(config.num_hidden_layers));
    set("context_length", count(config.max_position_embeddings));
    set("embedding_length", count(config.hidden_size));
    set("feed_forward_length", count(config.intermediate_size));
    set("attention.head_count", count(config.num_attention_heads));
    set("attention.head_count_kv", count(config.num_key_value_heads));
    set("attention.layer_norm_rms_epsilon", (config.rms_norm_eps as f32).into());
    set("attention.key_length", count(config.head_dim));
    set("attention.value_length", count(config.head_dim));
    set("vocab_size", count(config.vocab_size));
    set("rope.dimension_count", count(config.rotary_dim));
    set("rope.freq_base", (config.rope_theta as f32).into());
    match &config.rope_scaling {
        RopeScaling::Linear { factor } => {
            set("rope.scaling.type", "linear".into());
            set("rope.scaling.factor", (*factor as f32).into());
        }
        RopeScaling::LongRope { attention_factor, original_max_position_embeddings, .. } => {
            set("rope.scaling.attn_factor", (*attention_factor as f32).into());
            set("rope.scaling.original_context_length", count(*original_max_position_embeddings));
        }
        RopeScaling::Default | RopeScaling::Llama3 { .. } | RopeScaling::Factors(_) => {}
    }
    for (key, value) in family_keys(config) {
        set(key, value);
    }

    vocabulary.write(&mut metadata);

    metadata.insert("slmc.version", env!("CARGO_PKG_VERSION"));
    metadata.insert("slmc.recipe", provenance.recipe.as_str());
    if let Some(hash) = &provenance.calibration_sha256 {
        metadata.insert("slmc.calibration.sha256", hash.as_str());
    }
    metadata
}

/// What only some families have: windows that llama.cpp heeds, multipliers and soft-caps.
fn family_keys(config: &ModelConfig) -> Vec<(&'static str, Value)> {
    let rules = &config.arch.gguf;
    let mut keys: Vec<(&'static str, Value)> = Vec::new();
    let number = |value: f64| Value::F32(value as f32);
    let windows = &config.sliding_window;
    let window = windows.iter().flatten().next();
    if let (Some(period), true) = (rules.window_period, window.is_some() || rules.always_windowed) {
        keys.push(("attention.sliding_window", Value::U32(window.map_or(0, |&window| window as u32))));
        let windowed: Vec<bool> = windows.iter().map(Option::is_some).collect();
        if (1..)
            .zip(&windowed)
            .any(|(number, &windowed): (usize, _)| windowed == number.is_multiple_of(period))
        {
            keys.push(("attention.sliding_window_pattern", Value::Array(Array::Bool(windowed))));
        }
    }
    if config.arch.long_rope {
        // llama.cpp leaves the window out, but tells Phi-4 from Phi-3 by a 0 here.
        keys.push(("attention.sliding_window", Value::U32(window.map_or(0, |&window| window as u32))));
    }
    if rules.local_rope_theta.is_some() {
        keys.push(("rope.freq_base_swa", number(config.local_rope_theta)));
    }
    if let Some(cap) = config.attention_softcap {
        keys.push(("attn_logit_softcapping", number(cap)));
    }
    if let Some(cap) = config.logits.softcap {
        keys.push(("final_logit_softcapping", Value::F32(cap)));
    }
    if config.arch.scaling == Scaling::Granite {
        keys.push(("attention.scale", number(config.attention_scale)));
        keys.push(("embedding_scale", number(config.embedding_scale)));
        keys.push(("residual_scale", number(config.residual_scale)));
        keys.push(("logit_scale", number(1.0 / f64::from(config.logits.scale))));
    }
    keys
}

/// Parameters to two digits with a unit, as llama.cpp's converter labels sizes: `12M`, `1.2B`.
fn size_label(parameters: usize) -> String {
    let parameters = parameters as f64;
    let (scaled, unit) = if parameters > 1e12 {
        (parameters / 1e12, 'T')
    } else if parameters > 1e9 {
        (parameters / 1e9, 'B')
    } else if parameters > 1e6 {
        (parameters / 1e6, 'M')
    } else {
        (parameters / 1e3, 'K')
    };
    let digits = if scaled.round() < 10.0 { 1 } else { 0 };
    format!("{scaled:.digits$}{unit}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn size_labels_are_those_of_the_converter() {
        let label = super::size_label;
        assert_eq!(
            [label(11_536_896), label(1_235_814_400), label(2_880_000), label(9_960_000_000)],
            ["12M", "1.2B", "2.9M", "10B"]
        );
    }
}
