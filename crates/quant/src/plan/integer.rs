//! The plan of a checkpoint whose linear layers become packed integers.

use std::fmt;

use serde::Serialize;
use slmc_checkpoint::Dtype;

use super::{Pattern, PatternOption, PlanError, PlannedZeros, StoredType};
use crate::awq::GridPlan;
use crate::{Grid, IntGrid, IntScheme, Method, Rounding};

/// What the plan knows about a tensor before reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntFacts {
    /// GGUF name, which patterns and methods know it by.
    pub name: String,
    /// Its name in the checkpoint.
    pub hf_name: String,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// How the checkpoint stores it.
    pub dtype: Dtype,
    /// Whether it is the weight of a linear layer inside a block.
    pub is_linear: bool,
}

/// What becomes of a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IntPlan {
    /// Bits, groups, symmetry.
    pub scheme: IntScheme,
    /// How the stored values are chosen.
    pub method: Method,
    /// Every tensor, in the order given.
    pub tensors: Vec<IntTensor>,
    /// Bytes of all tensors' data, without the files' headers.
    pub total_bytes: u64,
    /// Number of weights.
    pub total_weights: u64,
    /// 8 · `total_bytes` / `total_weights`.
    pub bits_per_weight: f64,
}

/// One tensor of an [`IntPlan`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IntTensor {
    /// GGUF name.
    #[serde(skip)]
    pub name: String,
    /// Its name in the checkpoint.
    #[serde(rename = "name")]
    pub hf_name: String,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// How the checkpoint stores it.
    #[serde(skip)]
    pub dtype: Dtype,
    /// How its values will be stored.
    #[serde(rename = "type")]
    pub ty: StoredType,
    /// Its grid; `None` where it stays as it is.
    #[serde(skip)]
    pub grid: Option<IntGrid>,
    /// Bytes of its data, all parts together.
    pub bytes: u64,
    /// Why.
    pub reason: IntReason,
    /// What becomes of its zeros, where it has been pruned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zeros: Option<PlannedZeros>,
}

/// Why a tensor is stored as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum IntReason {
    /// The weight of a linear layer.
    Linear,
    /// `--keep`.
    Kept {
        /// The pattern that matched.
        pattern: String,
    },
    /// Readers of packed checkpoints expect it in full precision.
    Other,
}

impl fmt::Display for IntReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Linear => f.write_str("linear layer"),
            Self::Kept { pattern } => write!(f, "--keep `{pattern}`"),
            Self::Other => f.write_str("no linear layer of a block"),
        }
    }
}

/// Bytes of a packed weight's shape: two 64-bit integers.
const SHAPE_BYTES: u64 = 16;

impl IntPlan {
    /// Plans all tensors of a checkpoint. `keep` matches GGUF or checkpoint names.
    ///
    /// # Errors
    /// A pattern that matches no linear layer; columns that the groups do not divide.
    pub fn new(
        scheme: IntScheme,
        method: Method,
        tensors: &[IntFacts],
        keep: &[Pattern],
    ) -> Result<Self, PlanError> {
        let matches =
            |p: &Pattern, t: &IntFacts| t.is_linear && (p.matches(&t.name) || p.matches(&t.hf_name));
        if let Some(idle) = keep.iter().find(|p| !tensors.iter().any(|t| matches(p, t))) {
            return Err(PlanError::NoMatch { option: PatternOption::Keep, pattern: idle.to_string() });
        }
        let mut planned = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            let (rows, columns) = (tensor.shape[0], tensor.shape.last().copied().unwrap_or(1));
            let reason = match keep.iter().find(|p| matches(p, tensor)) {
                Some(pattern) => IntReason::Kept { pattern: pattern.to_string() },
                None if tensor.is_linear => IntReason::Linear,
                None => IntReason::Other,
            };
            let weights: u64 = tensor.shape.iter().map(|&d| d as u64).product();
            let (grid, ty, bytes) = if reason == IntReason::Linear {
                let grid = scheme.grid(columns, tensor.dtype).ok_or_else(|| PlanError::Groups {
                    tensor: tensor.hf_name.clone(),
                    columns,
                    scheme: scheme.to_string(),
                    fitting: fitting(columns),
                })?;
                (Some(grid), StoredType::Int(scheme), grid.stored_bytes(rows, columns) + SHAPE_BYTES)
            } else {
                (None, StoredType::as_it_is(tensor.dtype).into(), weights * tensor.dtype.bytes() as u64)
            };
            let IntFacts { name, hf_name, shape, dtype, .. } = tensor.clone();
            planned.push(IntTensor { name, hf_name, shape, dtype, ty, grid, bytes, reason, zeros: None });
        }
        let total_bytes = planned.iter().map(|t| t.bytes).sum();
        let total_weights = planned.iter().map(IntTensor::weights).sum();
        let bits_per_weight =
            if total_weights == 0 { 0.0 } else { 8.0 * total_bytes as f64 / total_weights as f64 };
        Ok(Self { scheme, method, tensors: planned, total_bytes, total_weights, bits_per_weight })
    }

    /// The tensor of this GGUF name.
    pub fn tensor(&self, name: &str) -> Option<&IntTensor> {
        self.tensors.iter().find(|t| t.name == name)
    }

    /// Checkpoint names of the linear layers that stay as they are.
    pub fn kept(&self) -> impl Iterator<Item = &str> {
        let kept = |t: &&IntTensor| matches!(t.reason, IntReason::Kept { .. });
        self.tensors.iter().filter(kept).map(|t| t.hf_name.as_str())
    }
}

impl IntTensor {
    /// Number of weights.
    pub fn weights(&self) -> u64 {
        self.shape.iter().map(|&d| d as u64).product()
    }

    /// The reason and, where there are any, what becomes of zeros, for a person to read.
    pub fn explanation(&self) -> String {
        let zeros = self.zeros.iter().map(|zeros| format!("; {zeros}"));
        std::iter::once(self.reason.to_string()).chain(zeros).collect()
    }
}

impl GridPlan for IntPlan {
    type Grid = IntGrid;

    fn rescales(&self) -> bool {
        self.method.rescales()
    }

    fn grid(&self, name: &str) -> Option<IntGrid> {
        self.tensor(name)?.grid
    }

    fn run_len(&self) -> Option<usize> {
        let weighted = self.method.rounding() == Rounding::Weighted;
        self.tensors.iter().filter(|_| weighted).find_map(|t| t.grid?.run_len())
    }

    fn is_kept(&self, name: &str) -> bool {
        self.tensor(name).is_some_and(|t| matches!(t.reason, IntReason::Kept { .. }))
    }

    fn is_quantized(&self, name: &str) -> bool {
        self.tensor(name).is_some_and(|t| t.grid.is_some())
    }
}

/// The group sizes that divide `columns`, for a message.
fn fitting(columns: usize) -> String {
    let sizes = IntScheme::GROUPS.into_iter().filter(|n| columns.is_multiple_of(*n)).map(|n| n.to_string());
    sizes.chain(["channel".to_owned()]).collect::<Vec<_>>().join(" or ")
}
