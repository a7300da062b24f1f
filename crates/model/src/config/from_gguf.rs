//! A configuration from the metadata and the tensor list of a GGUF file.

use slmc_gguf::TensorType;
use slmc_gguf::blocks::decode;
use slmc_gguf::container::{FromValue, GgufFile, MetadataError};

use super::{ConfigError, ModelConfig, RopeScaling, supported};
use crate::arch::{Activation, ArchSpec, Role, TensorId};

/// Frequency factors of llama3 scaling.
const ROPE_FREQS: &str = "rope_freqs.weight";

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
        for key in ["attention.value_length", "rope.dimension_count"] {
            if let Some(found) = keys.optional_dimension(key)?.filter(|&found| found != head_dim) {
                return Err(keys.bad(key, found, &format!("{head_dim}, the width of a head")));
            }
        }
        if head_dim == 0 || head_dim % 2 != 0 {
            return Err(keys.bad("attention.key_length", head_dim, "an even number above 0"));
        }
        let embedding = TensorId::global(Role::TokenEmbedding);
        let vocab_size = keys
            .tensor_shape(embedding)
            .and_then(|shape| shape.first().copied())
            .ok_or_else(|| ConfigError::Metadata("no tensor token_embd.weight".to_owned()))?;
        let num_hidden_layers = keys.dimension("block_count")?;
        let has = |id: TensorId| keys.tensor_shape(id).is_some();
        Ok(Self {
            arch,
            vocab_size,
            hidden_size,
            intermediate_size: keys.dimension("feed_forward_length")?,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            activation: Activation::Silu,
            rms_norm_eps: f64::from(keys.positive("attention.layer_norm_rms_epsilon")?.ok_or_else(|| {
                ConfigError::from(MetadataError::Missing {
                    key: keys.full("attention.layer_norm_rms_epsilon"),
                })
            })?),
            rope_theta: f64::from(keys.positive("rope.freq_base")?.unwrap_or(10_000.0)),
            rope_scaling: keys.rope_scaling(head_dim)?,
            max_position_embeddings: keys.dimension("context_length")?,
            sliding_window: vec![None; num_hidden_layers],
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

    fn rope_scaling(&self, head_dim: usize) -> Result<RopeScaling, ConfigError> {
        if let Some(factors) = self.rope_freqs(head_dim)? {
            return Ok(RopeScaling::Factors(factors));
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

    fn rope_freqs(&self, head_dim: usize) -> Result<Option<Vec<f32>>, ConfigError> {
        let Some(info) = self.file.tensor(ROPE_FREQS) else { return Ok(None) };
        let mut factors = vec![0.0; head_dim / 2];
        let fits = info.ty == TensorType::F32 && info.shape == [head_dim / 2];
        let read = fits.then(|| decode(info.ty, self.file.data(info), &mut factors));
        if !matches!(read, Some(Ok(()))) || !factors.iter().all(|f| f.is_finite() && *f > 0.0) {
            return Err(ConfigError::Unsupported {
                field: ROPE_FREQS.to_owned(),
                found: format!("{:?} {}", info.shape, info.ty),
                expected: format!("[{}] f32, finite and above 0", head_dim / 2),
            });
        }
        Ok(Some(factors))
    }
}
