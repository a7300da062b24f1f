//! What pruning by zeros knows of the dense model: the second moments of every linear layer's inputs, and what pruning one block at a
//! time costs.

use std::collections::HashMap;

use slmc_prune::Method;

use crate::scores::ScoreFile;

/// Shares that were pruned.
const SHARES: &str = "shares";

/// What that cost, block by block.
const DIVERGENCES: &str = "divergences";

/// What is known of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// Second moments of the inputs, `[d_in]`, by GGUF name of the linear layer; empty where they were not gathered.
    pub moments: HashMap<String, Vec<f32>>,
    /// What pruning costs block by block, where it was measured.
    pub costs: Option<BlockCosts>,
}

/// Mean KL divergences, in nats per token, of the model of which one block alone is pruned.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockCosts {
    /// How it was pruned.
    pub method: Method,
    /// Shares that were pruned, rising.
    pub shares: Vec<f64>,
    /// For every block, one value a share.
    pub divergences: Vec<Vec<f64>>,
}

impl Scores {
    /// What a file has of them.
    pub fn find(file: &ScoreFile) -> Self {
        let moments = file.moments().iter().map(|(name, values)| (name.clone(), values.clone())).collect();
        let costs = match (file.method, file.figures(SHARES), file.figures(DIVERGENCES)) {
            (Some(method), Some(shares), Some(divergences)) if !shares.is_empty() => Some(BlockCosts {
                method,
                shares: shares.to_vec(),
                divergences: divergences.chunks(shares.len()).map(<[f64]>::to_vec).collect(),
            }),
            _ => None,
        };
        Self { moments, costs }
    }

    /// Puts them into a file.
    pub fn put(&self, file: &mut ScoreFile) {
        for (name, values) in &self.moments {
            file.put_moments(name, values.clone());
        }
        if let Some(BlockCosts { method, shares, divergences }) = &self.costs {
            file.method = Some(*method);
            file.put_figures(SHARES, shares.clone());
            file.put_figures(DIVERGENCES, divergences.concat());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scores::Identity;

    #[test]
    fn costs_are_found_as_they_were_put() {
        let costs = BlockCosts {
            method: Method::Wanda,
            shares: vec![0.3, 0.5],
            divergences: vec![vec![0.1 + 0.2, 1.0 / 3.0]; 4],
        };
        let scores = Scores { moments: [("a".to_owned(), vec![1.0])].into(), costs: Some(costs) };
        let mut file = ScoreFile::new(Identity::default());
        assert_eq!(Scores::find(&file), Scores::default());
        scores.put(&mut file);
        assert_eq!(Scores::find(&file), scores);
    }
}
