//! Zeros among a pruned model's weights, and whether they stay.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{IntPlan, Plan, PlanError, StoredType};
use crate::Grid;
use crate::mix::holding_zeros;

/// Share of zeros from which on a tensor counts as pruned: weights that training has made exactly zero are far fewer.
const PRUNED: f64 = 0.2;

/// Which zeros stay zeros: `--keep-zeros`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeepZeros {
    /// Those of tensors with at least 20 % zeros, where their type can hold them.
    #[default]
    Auto,
    /// All; a type that cannot hold them is refused.
    Always,
    /// None need to: they are weights like others.
    Never,
}

impl FromStr for KeepZeros {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            _ => Err("expected auto, always or never".into()),
        }
    }
}

/// What becomes of a tensor's zeros.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedZeros {
    /// Their share of its weights, as far as they were counted before the run.
    pub share: f64,
    /// Whether all of them stay zeros.
    pub held: bool,
}

impl PlannedZeros {
    /// Of a tensor with a share of zeros on a grid; `None` where they are nothing special.
    fn of(share: f64, grid: impl Grid, keep: KeepZeros) -> Option<Self> {
        let counts = match keep {
            KeepZeros::Auto => share >= PRUNED,
            KeepZeros::Always => share > 0.0,
            KeepZeros::Never => false,
        };
        counts.then(|| Self { share, held: grid.holds_zero() })
    }
}

impl fmt::Display for PlannedZeros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stay = if self.held { "stay" } else { "cannot stay" };
        write!(f, "its {:.1} % zeros {stay}", 100.0 * self.share)
    }
}

/// Tensors whose zeros their types cannot hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZerosLost {
    /// How many.
    pub tensors: usize,
    /// The first one.
    pub first: String,
    /// Their types, each once.
    pub types: Vec<String>,
}

impl fmt::Display for ZerosLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tensors, first, types } = self;
        write!(
            f,
            "the zeros of {tensors} tensors, the first {first}, will not be zeros any more: {} stores values above a minimum or in \
             a table without 0. The types q3_k, q4_0, q5_0, q6_k and q8_0 hold zeros (mixes q3_k_s, q4_0, q5_0, q6_k, q8_0), and so \
             do integers in groups (--group-size)",
            types.join(", ")
        )
    }
}

impl Plan {
    /// Decides about the zeros of all matrices; `shares` are their shares of zeros, by GGUF name.
    pub fn plan_zeros(&mut self, shares: &HashMap<String, f64>, keep: KeepZeros) {
        for tensor in self.tensors.iter_mut().filter(|tensor| tensor.shape.len() > 1) {
            let share = shares.get(&tensor.name).copied().unwrap_or_default();
            tensor.zeros = PlannedZeros::of(share, tensor.ty, keep);
            if let (Some(zeros), Some(fallback)) = (&mut tensor.zeros, &mut tensor.fallback) {
                fallback.got = holding_zeros(fallback.wanted, tensor.ty);
                tensor.ty = fallback.got;
                zeros.held = tensor.ty.holds_zero();
            }
        }
    }

    /// Those that cannot stay, if there are any.
    pub fn zeros_lost(&self) -> Option<ZerosLost> {
        let lost = self.tensors.iter().filter(|tensor| tensor.zeros.is_some_and(|zeros| !zeros.held));
        let mut found: Option<ZerosLost> = None;
        for tensor in lost {
            let all = found.get_or_insert_with(|| ZerosLost {
                tensors: 0,
                first: tensor.name.clone(),
                types: Vec::new(),
            });
            all.tensors += 1;
            let ty = StoredType::from(tensor.ty).to_string();
            if !all.types.contains(&ty) {
                all.types.push(ty);
            }
        }
        found
    }

    /// # Errors
    /// Zeros that are to stay, and cannot.
    pub fn check_zeros(&self, keep: KeepZeros) -> Result<(), PlanError> {
        match self.zeros_lost() {
            Some(lost) if keep == KeepZeros::Always => Err(PlanError::Zeros(lost)),
            _ => Ok(()),
        }
    }
}

impl IntPlan {
    /// As [`Plan::plan_zeros`]: integer grids hold all of them.
    pub fn plan_zeros(&mut self, shares: &HashMap<String, f64>, keep: KeepZeros) {
        for tensor in &mut self.tensors {
            let share = shares.get(&tensor.name).copied().unwrap_or_default();
            tensor.zeros = tensor.grid.and_then(|grid| PlannedZeros::of(share, grid, keep));
        }
    }
}
