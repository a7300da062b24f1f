//! Which tensors share one vector of scales, and how value channels reach the attention's output matrix.

use serde::{Deserialize, Serialize};

use crate::error::check_length;
use crate::plan::{Plan, Reason};
use crate::{Grid, QuantError, Rounding};

/// The four places of a decoder block where scales can be folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupKind {
    /// Input norm → query, key, value.
    AttentionInput,
    /// Value → attention output, one scale for each value channel.
    AttentionOutput,
    /// The norm in front of the MLP → gate, up.
    FeedForwardInput,
    /// Up → down. The gate stays as it is: the product gate ⊙ up is linear in up alone.
    FeedForwardDown,
}

impl GroupKind {
    /// Every kind, in the order of computation.
    pub const ALL: [Self; 4] =
        [Self::AttentionInput, Self::AttentionOutput, Self::FeedForwardInput, Self::FeedForwardDown];
}

/// What the scales divide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Producer {
    /// A norm's weight, `[d_in]`.
    Norm {
        /// GGUF name.
        weight: String,
    },
    /// Rows of a matrix, and its bias if the model has one.
    Rows {
        /// GGUF name of the matrix.
        weight: String,
        /// The rows: all, or of a fused matrix those of the layer in question.
        rows: std::ops::Range<usize>,
        /// How many the matrix has.
        of: usize,
        /// GGUF name of the bias.
        bias: Option<String>,
    },
}

/// Tensors that one vector of scales goes through: the producer is divided by it, the consumers' columns are multiplied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScaleGroup {
    /// Which of the block's four.
    pub kind: GroupKind,
    /// What is divided; `None` where nothing can be, and the consumers' inputs stay as they are.
    pub producer: Option<Producer>,
    /// GGUF names of the matrices whose columns are multiplied.
    pub consumers: Vec<String>,
}

impl ScaleGroup {
    /// Whether scaling this group can gain something and harms nothing: something can be divided, a consumer is rounded to a
    /// quantized type, and none of the matrices is kept (`--keep`) — scaled weights would no longer be those of the source.
    pub fn is_applicable<P: GridPlan>(&self, plan: &P) -> bool {
        let kept = |name: &str| plan.is_kept(name);
        let can_be_divided = match &self.producer {
            None => false,
            Some(Producer::Norm { .. }) => true,
            Some(Producer::Rows { weight, .. }) => !kept(weight),
        };
        can_be_divided
            && !self.consumers.iter().any(|name| kept(name))
            && self.consumers.iter().any(|name| plan.is_quantized(name))
    }
}

/// What rescaling asks of a plan. Names are GGUF names.
pub trait GridPlan {
    /// What matrices are rounded to.
    type Grid: Grid;

    /// Whether the float model is rescaled first.
    fn rescales(&self) -> bool;

    /// The grid of a matrix that [`ScaleGroup::is_applicable`] lets through; `None` if the plan has no such tensor.
    fn grid(&self, name: &str) -> Option<Self::Grid>;

    /// Columns of a run in which rounding wants the products of inputs ([`Grid::refine`]), where it does not want all of them.
    fn run_len(&self) -> Option<usize>;

    /// Whether the tensor is kept by the user's wish.
    fn is_kept(&self, name: &str) -> bool;

    /// Whether the tensor loses precision.
    fn is_quantized(&self, name: &str) -> bool;
}

impl GridPlan for Plan {
    type Grid = slmc_gguf::TensorType;

    fn rescales(&self) -> bool {
        self.method.rescales()
    }

    fn grid(&self, name: &str) -> Option<Self::Grid> {
        self.tensor(name).map(|t| t.ty)
    }

    fn run_len(&self) -> Option<usize> {
        let weighted = self.method.rounding() == Rounding::Weighted;
        self.tensors.iter().filter(|_| weighted).find_map(|t| t.ty.run_len())
    }

    fn is_kept(&self, name: &str) -> bool {
        self.tensor(name).is_some_and(|t| matches!(t.reason, Reason::Kept { .. }))
    }

    fn is_quantized(&self, name: &str) -> bool {
        self.tensor(name).is_some_and(|t| t.ty.is_quantized())
    }
}

/// Heads of grouped-query attention: query head h reads value head h / (query heads / value heads).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupedHeads {
    query_heads: usize,
    value_heads: usize,
    head_dim: usize,
}

impl GroupedHeads {
    /// # Errors
    /// A count of 0, or query heads that are no multiple of the value heads.
    pub fn new(query_heads: usize, value_heads: usize, head_dim: usize) -> Result<Self, QuantError> {
        let sound =
            head_dim > 0 && value_heads > 0 && query_heads > 0 && query_heads.is_multiple_of(value_heads);
        if !sound {
            return Err(QuantError::Length {
                what: "query heads",
                expected: value_heads,
                found: query_heads,
            });
        }
        Ok(Self { query_heads, value_heads, head_dim })
    }

    /// Rows of the value matrix.
    pub fn value_channels(&self) -> usize {
        self.value_heads * self.head_dim
    }

    /// Columns of the attention's output matrix.
    pub fn output_channels(&self) -> usize {
        self.query_heads * self.head_dim
    }

    /// Scales of the output matrix's columns, from those of the value channels: every query head gets its value head's.
    ///
    /// # Errors
    /// A wrong number of scales.
    pub fn expand(&self, value_scales: &[f32]) -> Result<Vec<f32>, QuantError> {
        check_length("value scales", value_scales, self.value_channels())?;
        let shared_by = self.query_heads / self.value_heads;
        Ok(value_scales.chunks_exact(self.head_dim).flat_map(|head| head.repeat(shared_by)).collect())
    }

    /// A statistic of the value channels, from one of the output matrix's inputs: the mean over the query heads that share
    /// each (the statistic must be a mean over tokens, such as E|x| or E\[x²\]).
    ///
    /// # Errors
    /// A wrong number of values.
    pub fn reduce(&self, output_statistic: &[f32]) -> Result<Vec<f32>, QuantError> {
        check_length("output statistic", output_statistic, self.output_channels())?;
        let shared_by = self.query_heads / self.value_heads;
        let mut means = Vec::with_capacity(self.value_channels());
        for group in output_statistic.chunks_exact(shared_by * self.head_dim) {
            means.extend((0..self.head_dim).map(|channel| {
                let heads = group.iter().skip(channel).step_by(self.head_dim);
                (heads.map(|&v| f64::from(v)).sum::<f64>() / shared_by as f64) as f32
            }));
        }
        Ok(means)
    }
}
