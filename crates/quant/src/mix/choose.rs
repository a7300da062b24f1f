//! The type each tensor gets in a mix, as llama-quantize chooses it without an importance matrix.
//!
//! Source: `llama_tensor_get_type_impl` in llama.cpp's `src/llama-quant.cpp`. Its rules for mixtures of experts and for
//! families slmc does not read are left out. One departure: there a tensor whose type the user sets is not counted, which
//! shifts the choice for later layers; here overrides change nothing but what they name.

use std::fmt;

use serde::{Deserialize, Serialize};
use slmc_gguf::TensorType::{self, *};

use super::category::{Category, TensorFacts};
use super::{Fallback, Mix, fit_columns};

/// What a mix needs to know about the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFacts {
    /// `general.architecture`, for example `llama` (also for mistral) or `qwen2`.
    pub architecture: String,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads.
    pub num_key_value_heads: usize,
}

impl ModelFacts {
    /// Query heads that share one value head (`n_gqa`).
    fn queries_per_value(&self) -> usize {
        self.num_attention_heads.checked_div(self.num_key_value_heads).unwrap_or(0)
    }

    /// llama.cpp calls these "70B" and spends more on their small value matrices (`load_arch_hparams` in its `src/models`).
    fn is_70b(&self) -> bool {
        self.num_hidden_layers == 80
            && match self.architecture.as_str() {
                "llama" => self.num_attention_heads != self.num_key_value_heads,
                "qwen2" => true,
                _ => false,
            }
    }
}

/// The rule of a mix that decided a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The mix's base type.
    Base,
    /// The head is read for every token and gets more bits.
    Head,
    /// The embedding is also the head.
    TiedEmbedding,
    /// Value matrices matter more than their size.
    AttentionValue,
    /// 80-layer models share a small value matrix between many query heads.
    AttentionValueOf70B,
    /// The attention's output matrix gets more bits in this mix.
    AttentionOutput,
    /// Down matrices, or those of some layers, get more bits in this mix.
    FeedForwardDown,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Base => "base type",
            Self::Head => "head",
            Self::TiedEmbedding => "embedding and head",
            Self::AttentionValue => "attention value",
            Self::AttentionValueOf70B => "attention value of an 80-layer model",
            Self::AttentionOutput => "attention output",
            Self::FeedForwardDown => "feed-forward down",
        })
    }
}

/// What a mix stores a tensor in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// The type stored.
    pub ty: TensorType,
    /// Why; `None` for tensors that no mix quantizes (vectors and norms), which are F32.
    pub rule: Option<Rule>,
    /// Set where the rule's type did not fit the columns.
    pub fallback: Option<Fallback>,
}

impl Mix {
    /// The type of every tensor, in the order given. `tensors` must be all of the model's: whether the embedding is tied
    /// is seen from the absence of `output.weight`, and layers are counted.
    pub fn choose(self, tensors: &[TensorFacts], model: &ModelFacts) -> Vec<Choice> {
        let values = tensors.iter().filter(|t| Category::of(&t.name) == Category::AttentionValue).count();
        let tied = !tensors.iter().any(|t| Category::of(&t.name) == Category::Head);
        let mut counters = Counters::default();
        let mut choices = vec![Choice { ty: F32, rule: None, fallback: None }; tensors.len()];
        // llama-quantize counts value and down matrices by layer, whatever their order in the file
        let mut order: Vec<usize> = (0..tensors.len()).filter(|&i| tensors[i].is_quantizable()).collect();
        order.sort_by_key(|&i| (tensors[i].layer(), &tensors[i].name));
        for i in order {
            let category = Category::of(&tensors[i].name);
            let position = counters.next(category);
            let (wanted, rule) = self.wanted(category, position, values, tied, model);
            choices[i] = Choice { rule: Some(rule), ..Choice::fitted(wanted, tensors[i].columns()) };
        }
        choices
    }

    /// The type this mix wants, and the rule: `position` counts the tensors of this category before this one, `values` is
    /// the number of value matrices.
    fn wanted(
        self,
        category: Category,
        position: usize,
        values: usize,
        tied: bool,
        model: &ModelFacts,
    ) -> (TensorType, Rule) {
        let base = self.base_type();
        if !base.is_quantized() {
            return (base, Rule::Base);
        }
        let ruled = |ty: TensorType, rule: Rule| (ty, if ty == base { Rule::Base } else { rule });
        match category {
            Category::Head | Category::TokenEmbedding if category == Category::Head || tied => {
                let rule = if tied { Rule::TiedEmbedding } else { Rule::Head };
                ruled(if base == Q8_0 { Q8_0 } else { Q6_K }, rule)
            }
            Category::AttentionValue => {
                let ty = self.value_type(position, values, model);
                if model.is_70b() && matches!(ty, Q3_K | Q4_K) {
                    ruled(Q5_K, Rule::AttentionValueOf70B)
                } else {
                    ruled(ty, Rule::AttentionValue)
                }
            }
            Category::AttentionOutput => ruled(self.attention_output_type(), Rule::AttentionOutput),
            Category::FeedForwardDown => {
                ruled(self.down_type(position, model.num_hidden_layers), Rule::FeedForwardDown)
            }
            Category::Head | Category::TokenEmbedding | Category::Other => (base, Rule::Base),
        }
    }

    fn value_type(self, position: usize, values: usize, model: &ModelFacts) -> TensorType {
        let shared = model.queries_per_value() >= 4;
        match self {
            Self::Q2_K if shared => Q4_K,
            Self::Q2_K => Q3_K,
            Self::Q3_K_M if position < 2 => Q5_K,
            Self::Q3_K_M => Q4_K,
            Self::Q3_K_L => Q5_K,
            Self::IQ4_NL | Self::IQ4_XS if shared => Q5_K,
            Self::Q4_K_M | Self::Q5_K_M if use_more_bits(position, values) => Q6_K,
            Self::Q4_K_S if position < 4 => Q5_K,
            _ => self.base_type(),
        }
    }

    fn attention_output_type(self) -> TensorType {
        match self {
            Self::Q2_K => Q3_K,
            Self::Q3_K_M => Q4_K,
            Self::Q3_K_L => Q5_K,
            _ => self.base_type(),
        }
    }

    fn down_type(self, position: usize, layers: usize) -> TensorType {
        match self {
            Self::Q2_K => Q3_K,
            Self::Q3_K_M if position < layers / 16 => Q5_K,
            Self::Q3_K_M => Q4_K,
            Self::Q3_K_L => Q5_K,
            Self::Q4_K_M | Self::Q5_K_M if use_more_bits(position, layers) => Q6_K,
            Self::IQ4_NL | Self::IQ4_XS | Self::Q4_K_S if position < layers / 8 => Q5_K,
            _ => self.base_type(),
        }
    }
}

impl Choice {
    /// `wanted`, or what stands in for it where it does not fit `columns`.
    pub(crate) fn fitted(wanted: TensorType, columns: usize) -> Self {
        let ty = fit_columns(wanted, columns);
        let fallback = (ty != wanted).then_some(Fallback { wanted, got: ty, columns });
        Self { ty, rule: None, fallback }
    }
}

/// The first and last eighth of the layers, and every third between them (`use_more_bits` in `llama-quant.cpp`).
fn use_more_bits(layer: usize, layers: usize) -> bool {
    let eighth = layers / 8;
    layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
}

#[derive(Default)]
struct Counters {
    values: usize,
    downs: usize,
}

impl Counters {
    /// How many tensors of this category came before.
    fn next(&mut self, category: Category) -> usize {
        let counter = match category {
            Category::AttentionValue => &mut self.values,
            Category::FeedForwardDown => &mut self.downs,
            _ => return 0,
        };
        *counter += 1;
        *counter - 1
    }
}
