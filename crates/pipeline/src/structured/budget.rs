//! How much may stay, and of what.

use serde::{Deserialize, Serialize};
use slmc_model::ModelConfig;
use slmc_prune::structured::allocate::{Allocation, allocate};
use slmc_prune::structured::{Curve, Kind, Widths};

use super::{Damage, Shape};
use crate::PipelineError;

/// What the result may be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Budget {
    /// This share of the blocks' parameters goes, to a thousandth, or more where sizes are coarse.
    Share(f64),
    /// So many parameters stay at most, embedding and head included.
    Parameters(u64),
    /// The weights take so many bytes at most.
    Bytes(u64),
}

/// How many of each kind were asked for; `None` where it is left open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Blocks.
    pub layers: Option<usize>,
    /// Key and value heads of a block.
    pub key_value_heads: Option<usize>,
    /// Query heads of a block, all together.
    pub query_heads: Option<usize>,
    /// Channels of a block's MLP.
    pub channels: Option<usize>,
}

/// Which sizes are allowed.
#[derive(Clone, Debug)]
pub struct Sizing<'a> {
    config: &'a ModelConfig,
    full: Widths,
    asked: Widths,
    /// Kinds that the budget may be spread over.
    free: Vec<Kind>,
    budget: Option<Budget>,
    /// Bytes that a parameter takes.
    parameter_bytes: f64,
    /// Blocks that must stay.
    fewest_layers: usize,
    /// What channels are a multiple of, and columns of the attention's output where they were before.
    multiple: usize,
}

/// Channels come in whole blocks of a K-quant where that leaves enough of a choice, and else of the small block formats.
const MULTIPLES: [usize; 2] = [256, 32];

/// By what part of the blocks' parameters a share may be missed: norms stay whole, and a quarter of all matrices is a quarter.
const SLACK: f64 = 0.001;

/// From this many multiples on there is enough of a choice.
const ENOUGH: usize = 16;

impl<'a> Sizing<'a> {
    /// Sizes of a model that were asked for, or that a budget allows for the kinds `free`; for all that can go where it is empty.
    ///
    /// # Errors
    /// Numbers that no such model can have; nothing asked for.
    pub fn new(
        config: &'a ModelConfig,
        (asked, budget, free): (Asked, Option<Budget>, &[Kind]),
        parameter_bytes: f64,
        (fewest_layers, multiple): (usize, Option<usize>),
    ) -> Result<Self, PipelineError> {
        let full = Shape::widths_of(config);
        let mut widths = full;
        let mut set = |kind: Kind, count: Option<usize>| -> Result<bool, PipelineError> {
            let Some(count) = count else { return Ok(false) };
            if count == 0 || count > full.of(kind) {
                return Err(PipelineError::cannot_prune(format!(
                    "{count} {kind} cannot be kept: the model has {}",
                    full.of(kind)
                )));
            }
            widths = widths.with(kind, count);
            Ok(true)
        };
        let mut pinned = Vec::new();
        for (kind, count) in [
            (Kind::Layers, asked.layers),
            (Kind::KeyValueHeads, asked.key_value_heads),
            (Kind::Channels, asked.channels),
        ] {
            if set(kind, count)? {
                pinned.push(kind);
            }
        }
        if let Some(queries) = asked.query_heads {
            let heads = asked.key_value_heads.unwrap_or(full.key_value_heads);
            if !queries.is_multiple_of(heads) {
                return Err(PipelineError::cannot_prune(format!(
                    "{queries} query heads do not share {heads} key and value heads evenly"
                )));
            }
            set(Kind::QueryHeads, Some(queries / heads))?;
            pinned.push(Kind::QueryHeads);
            if asked.key_value_heads.is_none() {
                pinned.push(Kind::KeyValueHeads);
            }
        }
        if widths.layers < fewest_layers {
            return Err(PipelineError::cannot_prune(format!(
                "{fewest_layers} layers are to be kept, and {} to remain",
                widths.layers
            )));
        }
        let multiple = multiple.unwrap_or_else(|| {
            let fits = |multiple: &usize| {
                full.channels.is_multiple_of(*multiple) && full.channels / multiple >= ENOUGH
            };
            MULTIPLES.into_iter().find(fits).unwrap_or(1)
        });
        let heads = [Kind::KeyValueHeads, Kind::QueryHeads];
        if !config.arch.free_heads
            && (widths.query_heads() < full.query_heads() || free.iter().any(|kind| heads.contains(kind)))
        {
            return Err(PipelineError::cannot_prune(format!(
                "llama.cpp reads {} models only where the heads are together as wide as the residual stream, so heads must stay; layers                  and channels can go",
                config.arch.model_type
            )));
        }
        let free_layers = config.arch.gguf.unrotated_period.is_none();
        if !free_layers && (widths.layers < full.layers || free.contains(&Kind::Layers)) {
            return Err(PipelineError::cannot_prune(format!(
                "llama.cpp tells by their number which layers of {} models rotate queries and keys, so layers must stay; heads and \
                 channels can go",
                config.arch.model_type
            )));
        }
        let can_go = |kind: &Kind| match kind {
            Kind::Layers => free_layers,
            kind => config.arch.free_heads || !heads.contains(kind),
        };
        let all = Kind::ALL.into_iter().filter(can_go);
        let free = if free.is_empty() { all.collect() } else { free.to_vec() };
        let free = free.into_iter().filter(|kind| !pinned.contains(kind)).collect();
        let fewest_layers = fewest_layers.max(1);
        Ok(Self { config, full, asked: widths, free, budget, parameter_bytes, fewest_layers, multiple })
    }

    /// Parameters of a size, and those of its blocks.
    pub fn parameters(&self, widths: Widths) -> (u64, u64) {
        let layers: Vec<usize> = (0..widths.layers).collect();
        let of = |shape: Shape| {
            let config = shape.narrowed(self.config);
            let blocks = config.tensors().into_iter().filter(|id| id.layer.is_some());
            let blocks = blocks.map(|id| config.shape(id.role).iter().product::<usize>() as u64).sum();
            (config.parameters() as u64, blocks)
        };
        of(Shape { layers, widths })
    }

    /// Whether a size keeps within the budget.
    fn fits(&self, widths: Widths) -> bool {
        let columns = |widths: Widths| widths.query_heads() * self.config.head_dim;
        if columns(self.full).is_multiple_of(self.multiple) && !columns(widths).is_multiple_of(self.multiple)
        {
            return false;
        }
        let (all, blocks) = self.parameters(widths);
        match self.budget {
            None => true,
            Some(Budget::Share(share)) => {
                blocks as f64 <= (1.0 - share + SLACK) * self.parameters(self.full).1 as f64
            }
            Some(Budget::Parameters(most)) => all <= most,
            Some(Budget::Bytes(most)) => all as f64 * self.parameter_bytes <= most as f64,
        }
    }

    /// How many of a kind may stay.
    fn choices(&self, kind: Kind) -> Vec<usize> {
        let full = self.full.of(kind);
        if !self.free.contains(&kind) {
            return vec![self.asked.of(kind)];
        }
        let mut choices: Vec<usize> = match kind {
            Kind::Layers => (self.fewest_layers..=full).collect(),
            Kind::KeyValueHeads | Kind::QueryHeads => (1..=full).collect(),
            Kind::Channels => (1..=full / self.multiple).map(|n| n * self.multiple).collect(),
        };
        if choices.last() != Some(&full) {
            choices.push(full);
        }
        choices
    }

    /// What must be measured to spread the budget: of every kind that can go, what would be removed if it went alone, and half of that.
    pub fn removals(&self) -> Vec<(Kind, usize)> {
        let mut removals = Vec::new();
        if self.budget.is_none() {
            return removals;
        }
        for &kind in &self.free {
            let choices: Vec<usize> =
                self.choices(kind).into_iter().filter(|count| *count < self.full.of(kind)).collect();
            let fitting = |count: &&usize| self.fits(self.asked.with(kind, **count));
            // three quarters of a kind are more than any good result lacks
            let least = self.full.of(kind).div_ceil(4);
            let Some(&alone) =
                choices.iter().rev().find(fitting).or_else(|| choices.iter().find(|count| **count >= least))
            else {
                continue;
            };
            let half = self.full.of(kind).midpoint(alone);
            let half = choices
                .iter()
                .copied()
                .filter(|count| *count > alone)
                .min_by_key(|count| count.abs_diff(half));
            removals.extend(half.into_iter().chain([alone]).map(|count| (kind, count)));
        }
        removals
    }

    /// The size: what was asked for, or what does least damage within the budget.
    ///
    /// # Errors
    /// No size keeps within the budget; nothing would go.
    pub fn choose(&self, damages: &[Damage]) -> Result<Allocation, PipelineError> {
        let curves: Vec<Curve> = Kind::ALL
            .into_iter()
            .map(|kind| {
                let of = damages.iter().filter(|damage| damage.kind == kind);
                Curve { kind, full: self.full.of(kind), points: of.map(|d| (d.kept, d.divergence)).collect() }
            })
            .collect();
        let predicted = 0.0;
        let allocation = match self.budget {
            None => Some(Allocation { widths: self.asked, predicted }),
            Some(_) => allocate(self.full, &curves, |kind| self.choices(kind), |widths| self.fits(widths)),
        };
        let Some(allocation) = allocation else {
            let kinds: Vec<&str> = self.free.iter().map(|kind| kind.name()).collect();
            return Err(PipelineError::cannot_prune(format!(
                "no smaller size of {} keeps within the budget; ask for less, or let more kinds go",
                kinds.join(", ")
            )));
        };
        if allocation.widths == self.full {
            return Err(PipelineError::cannot_prune(
                "nothing would be pruned: the model already keeps within what was asked for".into(),
            ));
        }
        Ok(allocation)
    }
}
