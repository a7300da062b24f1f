//! `config.json`, typed, in Hugging Face's spelling.

mod attention;
mod dimensions;
mod fields;
mod rope;
mod scales;

use serde_json::Value;
use thiserror::Error;

pub use attention::LayerType;
pub use dimensions::{Dimensions, keep_layers, set_dimensions};
pub use rope::RopeScaling;
pub use scales::Scales;

use crate::Dtype;
pub(crate) use fields::Fields;

use crate::packed::{PackScheme, read_config};

/// What can be wrong with a field of `config.json`.
#[derive(Debug, Error, PartialEq)]
pub enum ConfigError {
    /// The file holds something other than an object.
    #[error("expected a JSON object, found {found}")]
    NotAnObject {
        /// The JSON type found.
        found: &'static str,
    },
    /// A field without which the model is unknown is absent (or null).
    #[error("field {field} is absent (model_type {model_type:?})")]
    Absent {
        /// The field, with its parents: `rope_scaling.factor`.
        field: String,
        /// The model type, which says whether such a field is to be expected at all.
        model_type: String,
    },
    /// A field has another JSON type than it must have.
    #[error("field {field} is {found}; expected {expected}")]
    WrongType {
        /// The field.
        field: String,
        /// What it must be.
        expected: &'static str,
        /// What it is, shortened.
        found: String,
    },
    /// A field's value is impossible, by itself or beside another.
    #[error("field {field} is {found}; expected {expected}")]
    BadValue {
        /// The field.
        field: String,
        /// Its value.
        found: String,
        /// What would do.
        expected: String,
    },
    /// The decoder's settings lie in a nested object, as in models for several modalities.
    #[error(
        "the settings of the text model lie in a nested {field} (model_type {model_type:?}); \
         only checkpoints of a text model by itself are read"
    )]
    Nested {
        /// The nested object.
        field: &'static str,
        /// The model type of the whole.
        model_type: String,
    },
}

/// A decoder's configuration. Absent fields have the defaults of the Hugging Face class
/// (`transformers/models/<model_type>/configuration_<model_type>.py`), as far as one is safe to assume;
/// dimensions are never assumed.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The family, for example `llama`.
    pub model_type: String,
    /// The classes, for example `LlamaForCausalLM`.
    pub architectures: Vec<String>,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Number of decoder blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; as many as query heads if absent. Divides `num_attention_heads`.
    pub num_key_value_heads: usize,
    /// Width of one head; `hidden_size / num_attention_heads` if absent.
    pub head_dim: usize,
    /// Activation of the MLP, for example `silu`.
    pub hidden_act: String,
    /// Added to the mean square in RMSNorm; 1e-6 if absent.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies, from either spelling; 10000 if absent.
    pub rope_theta: f64,
    /// How rotary frequencies are stretched, from either spelling.
    pub rope_scaling: RopeScaling,
    /// Base of the rotary frequencies in layers with a sliding window, in classes where they have their own.
    pub local_rope_theta: Option<f64>,
    /// Share of each head that is rotated, if the file says so.
    pub partial_rotary_factor: Option<f64>,
    /// Which layers rotate queries and keys at all; `None` for all.
    pub rotated_layers: Option<Vec<bool>>,
    /// The length before frequencies were stretched, if the file says so.
    pub original_max_position_embeddings: Option<usize>,
    /// Multipliers and soft-caps.
    pub scales: Scales,
    /// Experts of each MLP, where there are several.
    pub experts: Option<usize>,
    /// Whether tokens see those behind them, as in embedding models.
    pub use_bidirectional_attention: bool,
    /// Longest sequence the model was made for.
    pub max_position_embeddings: usize,
    /// Attention window in tokens, if windowed attention is in force in any layer: `use_sliding_window: false`
    /// makes this `None`.
    pub sliding_window: Option<usize>,
    /// First layer with windowed attention in qwen2, whose lower layers see everything.
    pub max_window_layers: Option<usize>,
    /// Attention of each layer, if the file lists it.
    pub layer_types: Option<Vec<LayerType>>,
    /// Whether the attention projections have biases in classes where that is a choice.
    pub attention_bias: bool,
    /// Whether the MLP projections have biases in classes where that is a choice.
    pub mlp_bias: bool,
    /// Whether the output head is the embedding; the class's default if absent.
    pub tie_word_embeddings: bool,
    /// Beginning-of-sequence token.
    pub bos_token_id: Option<u32>,
    /// End-of-sequence tokens; most models have one.
    pub eos_token_id: Vec<u32>,
    /// Padding token.
    pub pad_token_id: Option<u32>,
    /// The type the weights were saved in (`dtype`, formerly `torch_dtype`), if it is one slmc knows.
    pub dtype: Option<Dtype>,
    /// How the linear layers' weights are packed, where they are quantized.
    pub quantization: Option<PackScheme>,
}

/// No dimension of an honest model reaches this; products of three of them still fit a u64.
const MAX_DIMENSION: usize = 1 << 24;

impl Config {
    /// Reads and checks the fields.
    ///
    /// # Errors
    /// A field that is absent and has no safe default, of a wrong type, or impossible.
    pub fn from_json(json: &Value) -> Result<Self, ConfigError> {
        let fields = Fields::of(json)?;
        let model_type = fields.string("model_type")?;
        for nested in ["text_config", "llm_config", "language_config", "thinker_config"] {
            if json.get(nested).is_some_and(Value::is_object) {
                return Err(ConfigError::Nested { field: nested, model_type });
            }
        }
        let hidden_size = fields.dimension("hidden_size")?;
        // Files of Gemma 3 leave out what the class says.
        let class = |value: usize| (model_type == "gemma3_text").then_some(value);
        let dimension = |name: &str, class: Option<usize>| match (fields.optional_dimension(name)?, class) {
            (Some(stated), _) => Ok(stated),
            (None, Some(class)) => Ok(class),
            (None, None) => Err(fields.absent(name)),
        };
        let num_attention_heads = dimension("num_attention_heads", class(8))?;
        let num_key_value_heads = dimension("num_key_value_heads", class(4).or(Some(num_attention_heads)))?;
        if !num_attention_heads.is_multiple_of(num_key_value_heads) {
            return Err(ConfigError::BadValue {
                field: "num_key_value_heads".into(),
                found: num_key_value_heads.to_string(),
                expected: format!("a divisor of num_attention_heads, {num_attention_heads}"),
            });
        }
        let class_head_dim = matches!(&*model_type, "gemma2" | "gemma3_text").then_some(256);
        let head_dim = match fields.optional_dimension("head_dim")?.or(class_head_dim) {
            Some(head_dim) => head_dim,
            None if hidden_size.is_multiple_of(num_attention_heads) => hidden_size / num_attention_heads,
            None => {
                return Err(ConfigError::BadValue {
                    field: "num_attention_heads".into(),
                    found: num_attention_heads.to_string(),
                    expected: format!("a divisor of hidden_size, {hidden_size}, as there is no head_dim"),
                });
            }
        };
        let num_hidden_layers = fields.dimension("num_hidden_layers")?;
        let max_position_embeddings = match (fields.get("max_position_embeddings"), class(131_072)) {
            (None, Some(class)) => class,
            _ => fields.positions("max_position_embeddings")?,
        };
        let rope = rope::read(&fields, &model_type, max_position_embeddings)?;
        let window = attention::read(&fields, &model_type, num_hidden_layers)?;
        Ok(Self {
            architectures: fields.strings("architectures")?,
            vocab_size: dimension("vocab_size", class(262_208))?,
            hidden_size,
            intermediate_size: fields.dimension("intermediate_size")?,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            hidden_act: activation(&fields, &model_type)?,
            rms_norm_eps: fields.positive("rms_norm_eps")?.unwrap_or(match &*model_type {
                "phi3" | "olmo2" => 1e-5,
                _ => 1e-6,
            }),
            rope_theta: rope.theta,
            rope_scaling: rope.scaling,
            local_rope_theta: rope.local_theta,
            partial_rotary_factor: rope.partial_rotary_factor,
            rotated_layers: match rope::rotated_layers(&fields, &model_type, num_hidden_layers)? {
                None if model_type == "exaone4" => window.rotated(),
                rotated => rotated,
            },
            original_max_position_embeddings: rope.original_max_position_embeddings,
            scales: scales::read(&fields, &model_type)?,
            experts: experts(&fields)?,
            use_bidirectional_attention: fields.boolean("use_bidirectional_attention")?.unwrap_or(false),
            max_position_embeddings,
            sliding_window: window.sliding_window,
            max_window_layers: window.max_window_layers,
            layer_types: window.layer_types,
            attention_bias: fields.boolean("attention_bias")?.unwrap_or(false),
            mlp_bias: fields.boolean("mlp_bias")?.unwrap_or(false),
            tie_word_embeddings: fields
                .boolean("tie_word_embeddings")?
                .unwrap_or_else(|| ties_by_default(&model_type)),
            bos_token_id: fields.token_ids("bos_token_id")?.first().copied(),
            eos_token_id: fields.token_ids("eos_token_id")?,
            pad_token_id: fields.token_ids("pad_token_id")?.first().copied(),
            dtype: fields
                .optional_string("dtype")?
                .or(fields.optional_string("torch_dtype")?)
                .and_then(|name| Dtype::from_torch_name(&name)),
            quantization: read_config(&fields)?,
            model_type,
        })
    }
}

/// Gemma's classes heed `hidden_activation` alone, which old files have beside a `hidden_act` that was never meant.
fn activation(fields: &Fields<'_>, model_type: &str) -> Result<String, ConfigError> {
    let (name, class) = match model_type {
        "gemma2" | "gemma3_text" => ("hidden_activation", "gelu_pytorch_tanh"),
        _ => ("hidden_act", "silu"),
    };
    Ok(fields.optional_string(name)?.unwrap_or_else(|| class.into()))
}

/// The number of experts, whatever the class calls it; `None` of a dense model.
fn experts(fields: &Fields<'_>) -> Result<Option<usize>, ConfigError> {
    let mut found = None;
    for name in ["num_experts", "num_local_experts", "n_routed_experts"] {
        found = found.or(fields.integer(name)?.filter(|&count| count > 1));
    }
    Ok(found.and_then(|count| usize::try_from(count).ok()))
}

/// Says in a `config.json` which type the weights are saved in, in the spelling it already uses (`dtype` if
/// neither).
pub fn set_dtype(config: &mut serde_json::Map<String, Value>, dtype: Dtype) {
    let field = if config.contains_key("torch_dtype") && !config.contains_key("dtype") {
        "torch_dtype"
    } else {
        "dtype"
    };
    config.insert(field.to_owned(), Value::from(dtype.torch_name()));
}

/// `tie_word_embeddings` of the class where the file does not say. Classes that do not say either inherit
/// `true` from `PretrainedConfig` (transformers before version 5, which wrote most files without the field).
fn ties_by_default(model_type: &str) -> bool {
    !matches!(
        model_type,
        "llama"
            | "mistral"
            | "mixtral"
            | "qwen2"
            | "qwen2_moe"
            | "qwen3"
            | "qwen3_moe"
            | "phi"
            | "phi3"
            | "olmo"
            | "olmo2"
            | "granite"
            | "stablelm"
            | "gpt_neox"
    )
}
