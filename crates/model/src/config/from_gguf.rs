//! A configuration from the metadata and the tensor list of a GGUF file.

use slmc_gguf::TensorType;
use slmc_gguf::blocks::decode;
use slmc_gguf::container::{Array, FromValue, GgufFile, MetadataError, Value};

use super::scales::Scales;
use super::{ConfigError, ModelConfig, RopeScaling, Rotation, supported};
use crate::arch::{ArchSpec, Role, Scaling, TensorId};
use crate::ops::LogitTransform;

/// Frequency factors of llama3 scaling.
pub const ROPE_FREQS: &str = "rope_freqs.weight";

/// Frequency factors of LongRoPE beyond the trained length.
pub const ROPE_FACTORS_LONG: &str = "rope_factors_long.weight";

/// Frequency factors of LongRoPE up to the trained length.
pub const ROPE_FACTORS_SHORT: &str = "rope_factors_short.weight";

/// Dimensions above this are not those of a model.
const MAX_DIMENSION: usize = 1 << 24;

impl From<MetadataError> for ConfigError {
    fn from(error: MetadataError) -> Self {
        Self::Metadata(error.to_string())
    }
}

impl ModelConfig {
    /// The configuration of a GGUF file, as llama.cpp reads it (`llama_model_base::load_hparams` and the
    /// family's `load_arch_hparams`): biases and a head are there if their tensors are.
    ///
    /// # Errors
    /// A family or RoPE scaling the decoder does not carry; keys that are absent or impossible.
    pub fn from_gguf(file: &GgufFile) -> Result<Self, ConfigError> {
        let metadata = file.metadata();
        let name: &str = metadata.require("general.architecture")?;
        let arch =
            ArchSpec::by_gguf_architecture(name).ok_or_else(|| ConfigError::UnsupportedArchitecture {
                field: "general.architecture",
                found: name.to_owned(),
                supported: supported(|arch| arch.gguf_architecture),
            })?;
        let keys = Keys { file, arch };
        let hidden_size = keys.dimension("embedding_length")?;
        let num_attention_heads = keys.dimension("attention.head_count")?;
        let num_key_value_heads =
            keys.optional_dimension("attention.head_count_kv")?.unwrap_or(num_attention_heads);
        if !num_attention_heads.is_multiple_of(num_key_value_heads) {
            let expected = format!("a divisor of {num_attention_heads} query heads");
            return Err(keys.bad("attention.head_count_kv", num_key_value_heads, &expected));
        }
        let head_dim =
            keys.optional_dimension("attention.key_length")?.unwrap_or(hidden_size / num_attention_heads);
        if let Some(found) = keys.optional_dimension("attention.value_length")?.filter(|&d| d != head_dim) {
            return Err(keys.bad(
                "attention.value_length",
                found,
                &format!("{head_dim}, the width of a head"),
            ));
        }
        if head_dim == 0 || head_dim % 2 != 0 {
            return Err(keys.bad("attention.key_length", head_dim, "an even number above 0"));
        }
        let rotary_dim = keys.optional_dimension("rope.dimension_count")?.unwrap_or(head_dim);
        if rotary_dim != head_dim && (!arch.long_rope || rotary_dim > head_dim || rotary_dim % 2 != 0) {
            let expected = format!("{head_dim}, the width of a head");
            return Err(keys.bad("rope.dimension_count", rotary_dim, &expected));
        }
        if let Some(experts) = keys.get::<usize>("expert_count")?.filter(|&experts| experts > 0) {
            let (field, found) = (keys.full("expert_count"), format!("{experts} experts"));
            return Err(ConfigError::MixtureOfExperts { field, found });
        }
        let embedding = TensorId::global(Role::TokenEmbedding);
        let vocab_size = keys
            .tensor_shape(embedding)
            .and_then(|shape| shape.first().copied())
            .ok_or_else(|| ConfigError::Metadata("no tensor token_embd.weight".to_owned()))?;
        let num_hidden_layers = keys.dimension("block_count")?;
        let has = |id: TensorId| keys.tensor_shape(id).is_some();
        let rope_theta = f64::from(keys.positive("rope.freq_base")?.unwrap_or(10_000.0));
        let sliding_window = keys.windows(num_hidden_layers)?;
        let (rotation, local_rope_theta) = keys.rotation(&sliding_window, rope_theta)?;
        let scales = keys.scales(hidden_size, num_attention_heads, head_dim, num_hidden_layers)?;
        Ok(Self {
            arch,
            vocab_size,
            hidden_size,
            intermediate_size: keys.dimension("feed_forward_length")?,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            activation: arch.activation,
            rms_norm_eps: f64::from(keys.positive("attention.layer_norm_rms_epsilon")?.ok_or_else(|| {
                ConfigError::from(MetadataError::Missing {
                    key: keys.full("attention.layer_norm_rms_epsilon"),
                })
            })?),
            rope_theta,
            rope_scaling: keys.rope_scaling(rotary_dim)?,
            local_rope_theta,
            rotary_dim,
            rotation,
            max_position_embeddings: keys.dimension("context_length")?,
            sliding_window,
            attention_scale: scales.attention,
            attention_softcap: scales.attention_softcap,
            embedding_scale: scales.embedding,
            residual_scale: scales.residual,
            logits: scales.logits,
            tie_word_embeddings: !has(TensorId::global(Role::Head)),
            qkv_bias: has(TensorId::block(0, Role::QueryBias)),
            output_bias: has(TensorId::block(0, Role::OutputBias)),
            mlp_bias: has(TensorId::block(0, Role::GateBias)),
        })
    }
}

/// Keys under the architecture's prefix.
struct Keys<'a> {
    file: &'a GgufFile,
    arch: &'static ArchSpec,
}

impl<'a> Keys<'a> {
    fn full(&self, key: &str) -> String {
        format!("{}.{key}", self.arch.gguf_architecture)
    }

    fn get<T: FromValue<'a>>(&self, key: &str) -> Result<Option<T>, ConfigError> {
        Ok(self.file.metadata().optional(&self.full(key))?)
    }

    fn bad(&self, key: &str, found: impl ToString, expected: &str) -> ConfigError {
        ConfigError::Unsupported {
            field: self.full(key),
            found: found.to_string(),
            expected: expected.to_owned(),
        }
    }

    fn optional_dimension(&self, key: &str) -> Result<Option<usize>, ConfigError> {
        match self.get::<usize>(key)? {
            Some(found) if !(1..=MAX_DIMENSION).contains(&found) => {
                Err(self.bad(key, found, &format!("1 to {MAX_DIMENSION}")))
            }
            found => Ok(found),
        }
    }

    fn dimension(&self, key: &str) -> Result<usize, ConfigError> {
        self.optional_dimension(key)?.ok_or_else(|| MetadataError::Missing { key: self.full(key) }.into())
    }

    fn positive(&self, key: &str) -> Result<Option<f32>, ConfigError> {
        match self.get::<f32>(key)? {
            Some(found) if !(found.is_finite() && found > 0.0) => {
                Err(self.bad(key, found, "a finite number above 0"))
            }
            found => Ok(found),
        }
    }

    fn tensor_shape(&self, id: TensorId) -> Option<&'a [usize]> {
        Some(&self.file.tensor(&self.arch.gguf_name(id)?)?.shape)
    }

    fn rope_scaling(&self, rotary_dim: usize) -> Result<RopeScaling, ConfigError> {
        if let Some(factors) = self.factors(ROPE_FREQS, rotary_dim)? {
            return Ok(RopeScaling::Factors(factors));
        }
        let long = self.factors(ROPE_FACTORS_LONG, rotary_dim)?;
        if let (Some(long), Some(short)) = (long, self.factors(ROPE_FACTORS_SHORT, rotary_dim)?) {
            return Ok(RopeScaling::LongRope {
                short,
                long,
                attention_factor: f64::from(self.positive("rope.scaling.attn_factor")?.unwrap_or(1.0)),
                original_max_position_embeddings: self
                    .optional_dimension("rope.scaling.original_context_length")?
                    .map_or_else(|| self.dimension("context_length"), Ok)?,
            });
        }
        let factor = match self.positive("rope.scaling.factor")? {
            None => self.positive("rope.scale_linear")?,
            factor => factor,
        };
        // llama.cpp takes linear scaling for granted where only a factor stands.
        match (self.get::<&str>("rope.scaling.type")?, factor) {
            (Some("none"), _) | (None | Some("linear"), None) => Ok(RopeScaling::Default),
            (None | Some("linear"), Some(factor)) => Ok(RopeScaling::Linear { factor: f64::from(factor) }),
            (Some(other), _) => Err(self.bad("rope.scaling.type", other, "none or linear")),
        }
    }

    /// Divisors of frequencies, where the file has this tensor.
    fn factors(&self, tensor: &str, rotary_dim: usize) -> Result<Option<Vec<f32>>, ConfigError> {
        let Some(info) = self.file.tensor(tensor) else { return Ok(None) };
        let mut factors = vec![0.0; rotary_dim / 2];
        let fits = info.ty == TensorType::F32 && info.shape == [rotary_dim / 2];
        let read = fits.then(|| decode(info.ty, self.file.data(info), &mut factors));
        if !matches!(read, Some(Ok(()))) || !factors.iter().all(|f| f.is_finite() && *f > 0.0) {
            return Err(ConfigError::Unsupported {
                field: tensor.to_owned(),
                found: format!("{:?} {}", info.shape, info.ty),
                expected: format!("[{}] f32, finite and above 0", rotary_dim / 2),
            });
        }
        Ok(Some(factors))
    }

    /// Each block's window, as `load_swa_pattern` of llama.cpp's `llama-model.cpp` finds it: listed, or every so many blocks one
    /// without.
    fn windows(&self, layers: usize) -> Result<Vec<Option<usize>>, ConfigError> {
        const KEY: &str = "attention.sliding_window";
        const PATTERN: &str = "attention.sliding_window_pattern";
        let Some(period) = self.arch.gguf.window_period else { return Ok(vec![None; layers]) };
        let window = match self.get::<usize>(KEY)? {
            None if self.arch.gguf.always_windowed => 4096,
            None | Some(0) => return Ok(vec![None; layers]),
            Some(window) => window,
        };
        let full = self.full(PATTERN);
        let windowed: Vec<bool> = match self.file.metadata().get(&full) {
            Some(Value::Array(Array::Bool(listed))) => listed.clone(),
            _ => {
                let period = self.get::<usize>(PATTERN)?.unwrap_or(period);
                (1..=layers).map(|number| period == 0 || !number.is_multiple_of(period)).collect()
            }
        };
        if windowed.len() != layers {
            let found = format!("a list of {}", windowed.len());
            return Err(self.bad(PATTERN, found, &format!("one entry for each of {layers} blocks")));
        }
        Ok(windowed.into_iter().map(|windowed| windowed.then_some(window)).collect())
    }

    /// How blocks rotate, and the base of those with a window.
    fn rotation(
        &self,
        windows: &[Option<usize>],
        rope_theta: f64,
    ) -> Result<(Vec<Rotation>, f64), ConfigError> {
        if let Some(period) = self.arch.gguf.unrotated_period {
            let unrotated = |number: usize| number.is_multiple_of(period);
            let of = |number| if unrotated(number) { Rotation::None } else { Rotation::Global };
            return Ok(((1..=windows.len()).map(of).collect(), rope_theta));
        }
        let Some(class) = self.arch.gguf.local_rope_theta else {
            return Ok((vec![Rotation::Global; windows.len()], rope_theta));
        };
        let of = |window: &Option<usize>| if window.is_some() { Rotation::Local } else { Rotation::Global };
        let theta = self.positive("rope.freq_base_swa")?.map_or(class, f64::from);
        Ok((windows.iter().map(of).collect(), theta))
    }

    fn scales(
        &self,
        hidden_size: usize,
        heads: usize,
        head_dim: usize,
        layers: usize,
    ) -> Result<Scales, ConfigError> {
        let number = |key: &str| Ok::<_, ConfigError>(self.positive(key)?.map(f64::from));
        let plain = Scales::plain(head_dim);
        Ok(match self.arch.scaling {
            Scaling::Plain => plain,
            Scaling::Gemma => Scales {
                attention: self.arch.gguf.attention_scale(hidden_size, heads, head_dim, layers),
                attention_softcap: number("attn_logit_softcapping")?.or(self.arch.gguf.softcaps[0]),
                embedding: (hidden_size as f64).sqrt(),
                logits: LogitTransform {
                    scale: 1.0,
                    softcap: number("final_logit_softcapping")?
                        .or(self.arch.gguf.softcaps[1])
                        .map(|cap| cap as f32),
                },
                ..plain
            },
            Scaling::Granite => Scales {
                attention: number("attention.scale")?.unwrap_or(plain.attention),
                embedding: number("embedding_scale")?.unwrap_or(1.0),
                residual: number("residual_scale")?.unwrap_or(1.0),
                logits: LogitTransform {
                    scale: number("logit_scale")?.unwrap_or(1.0).recip() as f32,
                    softcap: None,
                },
                ..plain
            },
        })
    }
}
