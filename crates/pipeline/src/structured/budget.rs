//! How much may stay, and of what.

use serde::{Deserialize, Serialize};
use slmc_gguf::TensorType;
use slmc_model::arch::Bias;
use slmc_model::{ModelConfig, Role, TensorId};
use slmc_prune::structured::allocate::{Allocation, allocate};
use slmc_prune::structured::{Curve, Kind, Widths};
use slmc_quant::mix::TensorFacts;
use slmc_quant::{Method, Mix, Plan, PlanRequest};

use super::{Damage, Shape};
use crate::PipelineError;
use crate::export::model_facts;

/// What the result may be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Budget {
    /// This share of the blocks' parameters goes, to a thousandth, or more where sizes are coarse.
    Share(f64),
    /// So many parameters stay at most, embedding and head included.
    Parameters(u64),
    /// The weights take so many bytes at most, in the checkpoint's own types.
    Bytes(u64),
    /// A GGUF file of a mix's types takes so many bytes at most for its tensors.
    File(u64, Mix),
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
    /// Dimensions of the residual stream.
    pub hidden_size: Option<usize>,
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
    /// Whether biases come that the original does not have.
    biases: bool,
    /// Blocks that must stay.
    fewest_layers: usize,
    /// What channels are a multiple of, and columns of the attention's output where they were before.
    multiple: usize,
    /// What dimensions of the stream are a multiple of.
    hidden_multiple: usize,
}

/// Columns come in whole blocks of a K-quant where that leaves enough of a choice, and else of the small block formats.
const MULTIPLES: [usize; 2] = [256, 32];

/// By what part of the blocks' parameters a share may be missed: norms stay whole, and a quarter of all matrices is a quarter.
const SLACK: f64 = 0.001;

/// From this many multiples on there is enough of a choice among channels.
const ENOUGH: usize = 16;

/// The same among dimensions of the stream, which all matrices have for rows or columns.
const ENOUGH_DIMENSIONS: usize = 6;

impl<'a> Sizing<'a> {
    /// Sizes of a model that were asked for, or that a budget allows for the kinds `free`; for all that can go where it is empty.
    ///
    /// # Errors
    /// Numbers that no such model can have; nothing asked for.
    pub fn new(
        config: &'a ModelConfig,
        (asked, budget, free): (Asked, Option<Budget>, &[Kind]),
        (parameter_bytes, biases): (f64, bool),
        (fewest_layers, multiple): (usize, Option<usize>),
    ) -> Result<Self, PipelineError> {
        let full = Shape::widths_of(config);
        let mut widths = full;
        let mut set = |kind: Kind, count: Option<usize>| -> Result<bool, PipelineError> {
            let Some(count) = count else { return Ok(false) };
            if count == 0 || count > full.of(kind) {
                let what = if kind == Kind::HiddenSize { "dimensions" } else { kind.name() };
                return Err(PipelineError::cannot_prune(format!(
                    "{count} {what} cannot be kept: the model has {}",
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
            (Kind::HiddenSize, asked.hidden_size),
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
        let multiple_of = |count: usize, enough: usize| {
            let fits = |of: &usize| count.is_multiple_of(*of) && count / of >= enough;
            multiple.unwrap_or_else(|| MULTIPLES.into_iter().find(fits).unwrap_or(1))
        };
        let hidden_multiple = multiple_of(full.hidden_size, ENOUGH_DIMENSIONS);
        let multiple = multiple_of(full.channels, ENOUGH);
        let heads = [Kind::KeyValueHeads, Kind::QueryHeads, Kind::HiddenSize];
        if !config.arch.free_heads
            && (widths.query_heads() < full.query_heads()
                || widths.hidden_size < full.hidden_size
                || free.iter().any(|kind| heads.contains(kind)))
        {
            return Err(PipelineError::cannot_prune(format!(
                "llama.cpp reads {} models only where the heads are together as wide as the residual stream, so heads and hidden size \
                 must stay; layers and channels can go",
                config.arch.model_type
            )));
        }
        if !narrows(config) && (widths.hidden_size < full.hidden_size || free.contains(&Kind::HiddenSize)) {
            return Err(PipelineError::cannot_prune(format!(
                "the hidden size of {} models must stay, as there are norms behind attention and MLP; layers, heads and channels can go",
                config.arch.model_type
            )));
        }
        if biases
            && (config.arch.output_bias, config.arch.mlp_bias) != (Bias::IfAttentionBias, Bias::IfMlpBias)
        {
            return Err(PipelineError::cannot_prune(format!(
                "{} models have no biases behind attention and MLP that could make up for anything; leave --compensate-bias out",
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
            Kind::HiddenSize => config.arch.free_heads && narrows(config),
            kind => config.arch.free_heads || !heads.contains(kind),
        };
        let all = Kind::ALL.into_iter().filter(can_go);
        let free = if free.is_empty() { all.collect() } else { free.to_vec() };
        let free = free.into_iter().filter(|kind| !pinned.contains(kind)).collect();
        let fewest_layers = fewest_layers.max(1);
        Ok(Self {
            config,
            full,
            asked: widths,
            free,
            budget,
            parameter_bytes,
            biases,
            fewest_layers,
            multiple,
            hidden_multiple,
        })
    }

    /// Whether dimensions of the residual stream may go.
    pub fn may_narrow(&self) -> bool {
        self.asked.hidden_size < self.full.hidden_size
            || (self.budget.is_some() && self.free.contains(&Kind::HiddenSize))
    }

    /// Whether blocks may go.
    pub fn may_shorten(&self) -> bool {
        self.asked.layers < self.full.layers || (self.budget.is_some() && self.free.contains(&Kind::Layers))
    }

    /// Whether a budget is to be spread over kinds, so that what each costs must be measured.
    pub fn compares_kinds(&self) -> bool {
        let removals = self.removals();
        removals.iter().any(|(kind, _)| *kind != removals[0].0)
    }

    /// Parameters of a size, and those of its blocks.
    pub fn parameters(&self, widths: Widths) -> (u64, u64) {
        let config = self.shape(widths).narrowed(self.config);
        let mut sums = [0; 2];
        for role in Role::ALL.into_iter().filter(|role| config.has(*role)) {
            let of = config.shape(role).iter().product::<usize>() as u64;
            sums[usize::from(role.is_per_layer())] += of;
        }
        let blocks = sums[1] * widths.layers as u64;
        (sums[0] + blocks, blocks)
    }

    /// What the tensors of a size take in a GGUF file of a mix's types; `None` where the mix cannot hold it.
    fn file_bytes(&self, widths: Widths, mix: Mix) -> Option<u64> {
        let config = self.shape(widths).narrowed(self.config);
        let facts = |id: TensorId| {
            let name = config.arch.gguf_name(id)?;
            // what matrices were is of no account, as every mix says what they become
            Some(TensorFacts { name, shape: config.shape(id.role), source: TensorType::F16 })
        };
        let facts: Vec<TensorFacts> = config.tensors().into_iter().map(facts).collect::<Option<_>>()?;
        let request = PlanRequest::new(mix, Method::Rtn);
        let plan = Plan::new(&model_facts(&config), &facts, &request).ok()?;
        Some(plan.tensors.iter().map(|tensor| tensor.bytes).sum())
    }

    /// A size whose blocks and dimensions are the first ones.
    fn shape(&self, widths: Widths) -> Shape {
        let layers = (0..widths.layers).collect();
        Shape { layers, dimensions: None, widths, biases: self.biases }
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
            Some(Budget::File(most, mix)) => self.file_bytes(widths, mix).is_some_and(|bytes| bytes <= most),
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
            Kind::HiddenSize => (1..=full / self.hidden_multiple).map(|n| n * self.hidden_multiple).collect(),
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

/// Whether norms stand in front of attention and MLP, and nowhere else in the residual stream, and weigh as their values say.
fn narrows(config: &ModelConfig) -> bool {
    let in_front = [Role::InputNorm, Role::PostNorm].into_iter().all(|norm| config.has(norm));
    let behind = [Role::AttentionOutputNorm, Role::MlpOutputNorm].into_iter().any(|norm| config.has(norm));
    in_front && !behind && config.offset(Role::InputNorm) == 0.0
}
