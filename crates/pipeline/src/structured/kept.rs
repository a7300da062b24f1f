//! Which heads and channels of a block stay.

use std::ops::Range;

use slmc_model::{ModelConfig, Role};
use slmc_prune::PruneError;
use slmc_prune::structured::solve::{columns_of, rows_of};
use slmc_prune::structured::{
    Elimination, Groups, InputMoments, StructuredImportance, Widths, eliminate, solve,
};
use slmc_quant::gptq::FeedbackFactor;

use super::LayerProfile;
use super::cutting::Staying;

/// How groups are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// By what.
    pub importance: StructuredImportance,
    /// After how many removals costs are told anew: about so many times.
    pub rounds: usize,
    /// Decides the lot.
    pub seed: u64,
}

/// The rows or columns that stay of one of a block's dimensions, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Of the attention output's columns, and so of query's rows.
    pub queries: Vec<usize>,
    /// Of key's and value's rows.
    pub key_values: Vec<usize>,
    /// Of down's columns, and so of gate's and up's rows.
    pub channels: Vec<usize>,
    /// Of the rows of query, key and value in one matrix.
    query_key_values: Vec<usize>,
    /// Of those of gate and up.
    gate_up: Vec<usize>,
}

impl Kept {
    /// What stays of the rows and columns of a linear layer, or of its bias's rows, inside the block.
    pub fn staying(&self, role: Role) -> Staying<'_> {
        match role {
            Role::QueryKeyValue => (Some(&self.query_key_values), None),
            Role::GateUp => (Some(&self.gate_up), None),
            Role::Query | Role::QueryBias => (Some(&self.queries), None),
            Role::Key | Role::KeyBias | Role::Value | Role::ValueBias => (Some(&self.key_values), None),
            Role::Gate | Role::GateBias | Role::Up | Role::UpBias => (Some(&self.channels), None),
            Role::Output => (None, Some(&self.queries)),
            Role::Down => (None, Some(&self.channels)),
            _ => (None, None),
        }
    }

    /// Notes which columns stay of one of the two layers that end a half of the block.
    pub fn note(&mut self, role: Role, columns: Vec<usize>, config: &ModelConfig) {
        if role == Role::Output {
            self.key_values = Self::key_values_of(&columns, config);
            self.queries = columns;
            self.query_key_values = self.rows_of(Role::QueryKeyValue, config);
        } else {
            self.channels = columns;
            self.gate_up = self.rows_of(Role::GateUp, config);
        }
    }

    /// The rows that stay of a matrix in which layers stand one behind the other.
    fn rows_of(&self, fused: Role, config: &ModelConfig) -> Vec<usize> {
        let rows = |(part, rows): (Role, Range<usize>)| {
            let kept = self.staying(part).0.unwrap_or_default();
            kept.iter().map(move |row| rows.start + row).collect::<Vec<_>>()
        };
        config.part_rows(fused).flat_map(rows).collect()
    }

    /// Key's and value's rows, from the query columns that stay: those of heads of which any query stays.
    fn key_values_of(queries: &[usize], config: &ModelConfig) -> Vec<usize> {
        let (width, group) = (config.head_dim, config.num_attention_heads / config.num_key_value_heads);
        let mut heads: Vec<usize> = queries.iter().map(|column| column / width / group).collect();
        heads.dedup();
        heads.into_iter().flat_map(|head| head * width..(head + 1) * width).collect()
    }
}

impl Choice {
    /// Whether Hessians decide.
    pub fn needs_hessians(&self) -> bool {
        self.importance == StructuredImportance::Hessian
    }

    /// Which columns stay of a layer that ends a half of block `layer`: the attention's output projection, or down (`targets`,
    /// `[hidden, columns]`). The factor may be absent where it does not decide.
    ///
    /// # Errors
    /// A number that cannot go; lengths that do not fit.
    pub fn columns(
        &self,
        targets: &[f32],
        factor: Option<&FeedbackFactor>,
        profile: &LayerProfile,
        (layer, role, config, widths): (usize, Role, &ModelConfig, Widths),
    ) -> Result<Vec<usize>, PruneError> {
        if role == Role::Output {
            return self.queries(targets, factor, &profile.heads, (layer, config, widths));
        }
        let (groups, removed) =
            (Groups::single(config.intermediate_size)?, config.intermediate_size - widths.channels);
        let gone = self.eliminate(targets, groups, factor, &profile.channels, (2 * layer, removed))?;
        Ok(gone.kept(removed))
    }

    fn queries(
        &self,
        targets: &[f32],
        factor: Option<&FeedbackFactor>,
        moments: &InputMoments,
        (layer, config, widths): (usize, &ModelConfig, Widths),
    ) -> Result<Vec<usize>, PruneError> {
        let (columns, width) = (config.query_size(), config.head_dim);
        let (heads, per_head) =
            (config.num_key_value_heads, config.num_attention_heads / config.num_key_value_heads);
        let groups = Groups::new(columns, width * per_head, heads)?;
        let removed = heads - widths.key_value_heads;
        let gone = self.eliminate(targets, groups, factor, moments, (2 * layer + 1, removed))?;
        let kept = groups.columns_of(&gone.kept(removed));
        let removed = (per_head - widths.queries_per_group) * widths.key_value_heads;
        if removed == 0 {
            return Ok(kept);
        }
        // of the heads that stay, every one loses as many queries
        let of = |values: &[f64]| kept.iter().filter_map(|column| values.get(*column).copied()).collect();
        let moments = InputMoments { means: of(&moments.means), second_moments: of(&moments.second_moments) };
        let groups = Groups::new(kept.len(), width, per_head)?;
        let (mut left, mut inner) = (targets.to_vec(), None);
        if let (Some(factor), StructuredImportance::Hessian) = (factor, self.importance) {
            solve(&mut left, &kept, factor)?;
            let hessian = columns_of(&rows_of(factor.hessian(), columns, &kept), columns, &kept);
            inner = Some(FeedbackFactor::new(hessian, kept.len(), 0.0)?);
        }
        let left = columns_of(&left, columns, &kept);
        let gone = self.eliminate(&left, groups, inner.as_ref(), &moments, (2 * layer + 1, removed))?;
        Ok(groups.columns_of(&gone.kept(removed)).into_iter().map(|at| kept[at]).collect())
    }

    fn eliminate(
        &self,
        targets: &[f32],
        groups: Groups,
        factor: Option<&FeedbackFactor>,
        moments: &InputMoments,
        (place, removed): (usize, usize),
    ) -> Result<Elimination, PruneError> {
        let importance = self.importance.of_groups(targets, groups, moments, (place, self.seed))?;
        match (importance, factor) {
            (None, _) if removed == 0 => {
                Elimination::by_importance(groups, &vec![0.0; groups.count()], removed)
            }
            (Some(importance), _) => Elimination::by_importance(groups, &importance, removed),
            (None, Some(factor)) => eliminate(targets, groups, factor, removed, self.rounds),
            (None, None) => unreachable!("Hessians are gathered where they decide"),
        }
    }
}
