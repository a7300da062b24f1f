//! Which heads and channels of a block stay.

use std::borrow::Cow;

use slmc_model::{ModelConfig, Role};
use slmc_prune::PruneError;
use slmc_prune::structured::solve::{columns_of, rows_of};
use slmc_prune::structured::{
    Elimination, Groups, InputMoments, StructuredImportance, Widths, eliminate, solve,
};
use slmc_quant::gptq::FeedbackFactor;

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
}

impl Kept {
    /// The rows that stay of a linear layer or its bias, in a model that had these dimensions; `None` for all.
    pub fn rows(&self, role: Role, config: &ModelConfig) -> Option<Cow<'_, [usize]>> {
        let whole: &[usize] = match role {
            Role::QueryKeyValue | Role::GateUp => {
                let parts = config.part_rows(role).map(|(part, rows)| {
                    let kept = self.rows(part, config);
                    kept.iter().flat_map(|kept| kept.iter()).map(|row| rows.start + row).collect::<Vec<_>>()
                });
                return Some(Cow::Owned(parts.flatten().collect()));
            }
            Role::Query | Role::QueryBias => &self.queries,
            Role::Key | Role::KeyBias | Role::Value | Role::ValueBias => &self.key_values,
            Role::Gate | Role::GateBias | Role::Up | Role::UpBias => &self.channels,
            _ => return None,
        };
        Some(Cow::Borrowed(whole))
    }

    /// The columns that stay of a linear layer; `None` for all.
    pub fn columns(&self, role: Role) -> Option<&[usize]> {
        match role {
            Role::Output => Some(&self.queries),
            Role::Down => Some(&self.channels),
            _ => None,
        }
    }

    /// Key's and value's rows, from the query columns that stay: those of heads of which any query stays.
    pub fn key_values_of(queries: &[usize], config: &ModelConfig) -> Vec<usize> {
        let (width, group) = (config.head_dim, config.num_attention_heads / config.num_key_value_heads);
        let mut heads: Vec<usize> = queries.iter().map(|column| column / width / group).collect();
        heads.dedup();
        heads.into_iter().flat_map(|head| head * width..(head + 1) * width).collect()
    }
}

impl Choice {
    /// The channels that stay, and what would have been lost when each number of them had gone. `targets` are down's
    /// (`[hidden, channels]`), `layer` is where.
    ///
    /// # Errors
    /// A number that cannot go; lengths that do not fit.
    pub fn channels(
        &self,
        targets: &[f32],
        factor: &FeedbackFactor,
        moments: &InputMoments,
        (layer, removed): (usize, usize),
    ) -> Result<Elimination, PruneError> {
        let groups = Groups::single(factor.columns())?;
        self.eliminate(targets, groups, factor, moments, (2 * layer, removed))
    }

    /// The columns of the attention's output projection that stay (`targets`, `[hidden, queries]`) when only so many heads do.
    ///
    /// # Errors
    /// A number that cannot go; lengths that do not fit.
    pub fn queries(
        &self,
        targets: &[f32],
        factor: &FeedbackFactor,
        moments: &InputMoments,
        (layer, config, widths): (usize, &ModelConfig, Widths),
    ) -> Result<Vec<usize>, PruneError> {
        let (columns, width) = (factor.columns(), config.head_dim);
        let (heads, per_head) =
            (config.num_key_value_heads, config.num_attention_heads / config.num_key_value_heads);
        let groups = Groups::new(columns, width * per_head, heads)?;
        let removed = heads - widths.key_value_heads;
        let gone = self.eliminate(targets, groups, factor, moments, (2 * layer + 1, removed))?;
        let mut kept = groups.columns_of(&gone.kept(removed));
        let removed = (per_head - widths.queries_per_group) * widths.key_value_heads;
        if removed == 0 {
            return Ok(kept);
        }
        // of the heads that stay, every one loses as many queries
        let mut solved = targets.to_vec();
        solve(&mut solved, &kept, factor)?;
        let hessian = columns_of(&rows_of(factor.hessian(), columns, &kept), columns, &kept);
        let inner = FeedbackFactor::new(hessian, kept.len(), 0.0)?;
        let of = |values: &[f64]| kept.iter().map(|column| values[*column]).collect();
        let moments = InputMoments { means: of(&moments.means), second_moments: of(&moments.second_moments) };
        let groups = Groups::new(kept.len(), width, per_head)?;
        let solved = columns_of(&solved, columns, &kept);
        let gone = self.eliminate(&solved, groups, &inner, &moments, (2 * layer + 1, removed))?;
        kept = groups.columns_of(&gone.kept(removed)).into_iter().map(|at| kept[at]).collect();
        Ok(kept)
    }

    fn eliminate(
        &self,
        targets: &[f32],
        groups: Groups,
        factor: &FeedbackFactor,
        moments: &InputMoments,
        (place, removed): (usize, usize),
    ) -> Result<Elimination, PruneError> {
        match self.importance.of_groups(targets, groups, moments, (place, self.seed))? {
            None => eliminate(targets, groups, factor, removed, self.rounds),
            Some(importance) => Elimination::by_importance(groups, &importance, removed),
        }
    }
}
